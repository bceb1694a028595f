"""Validates manifests on standard input against the schemas of their kinds, unknown fields refused, and
prints them as a JSON list, with what they carry as text behind them. Every mistake is a line on standard error; then the exit code is 1."""

import functools
import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

# The oldest that the chart supports (kubeVersion), and the newest that the package knows.
VERSIONS = ("1.30", "1.37")
INSTALLED = pathlib.Path(sys.executable).parent.parent / "schemas"
OURS = pathlib.Path(__file__).parent / "envoygateway.schema.json"

# Each manifest would otherwise read a megabyte of definitions again.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)


class Loader(yaml.SafeLoader):
    """YAML in which a key given twice is a mistake, as the API server has it."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"given twice: {twice}", node.start_mark)
        return super().construct_mapping(node, deep=deep)


def mistakes_of(manifest):
    kind = manifest["kind"]
    if kind == "EnvoyGateway":
        yield from by_schema(manifest, OURS)
        return
    if (INSTALLED / f"{kind}.json").exists():
        yield from by_schema(manifest, INSTALLED / f"{kind}.json")
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{version}: {'.'.join(map(str, error.path))}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield error.message


def by_schema(manifest, path):
    validator = jsonschema.Draft202012Validator(json.loads(path.read_text()))
    for error in validator.iter_errors(manifest):
        yield f"{'.'.join(map(str, error.path))}: {error.message[:300]}"


def inside(manifest):
    """What a manifest carries as text: Envoy Gateway reads its configuration from a ConfigMap."""
    text = (manifest.get("data") or {}).get("envoy-gateway.yaml")
    return [] if text is None else [yaml.load(text, Loader)]


def main():
    manifests = [manifest for manifest in yaml.load_all(sys.stdin, Loader) if manifest]
    manifests += [part for manifest in manifests for part in inside(manifest)]
    found = [
        f"{manifest['kind']} {manifest.get('metadata', {}).get('name', '')}: {mistake}"
        for manifest in manifests
        for mistake in mistakes_of(manifest)
    ]
    print("\n".join(found), file=sys.stderr)
    json.dump(manifests, sys.stdout)
    return 1 if found or not manifests else 0


sys.exit(main())
