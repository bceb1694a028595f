//! Values that share a bucket.

use super::SHARED;
use crate::support::{ask, check, on_every_store};

#[test]
fn values_share_a_bucket_where_the_rule_says_so() {
    on_every_store(SHARED, &[], |server, store| {
        // Each group is charged on one bucket, so that what is left falls from row to row.
        for group in [
            &["files=files/a.pdf", "files=files/b.csv", "files=files/"][..],
            &["route=api/v1,method=GET", "route=api/v2,method=GET"],
            // Only the entry with the pattern is shared; the other values count apart.
            &["route=api/v1,method=PUT", "route=api/v2,method=PUT"],
            &[
                "service=svc/user,endpoint=get",
                "service=svc/cart,endpoint=get",
            ],
            &[
                "nested=parent,files=nested/1",
                "nested=parent,files=nested/2",
            ],
            &[
                "path=path/a,file=file/1,type=pdf",
                "path=path/b,file=file/1,type=pdf",
            ],
            &[
                "path=path/a,file=file/2,type=pdf",
                "path=path/b,file=file/2,type=pdf",
            ],
            &[
                "path=path/a,file=file/1,type=doc",
                "path=path/b,file=file/1,type=doc",
            ],
            &["user=user/a,resource=res/1", "user=user/b,resource=res/2"],
            // An exact sibling comes first and has a bucket of its own.
            &["file=test1", "file=test1"],
            &["file=test2", "file=test23", "file=test123"],
            &[
                "midpath=/api/v1",
                "midpath=/api-beta-v1",
                "midpath=/apiXYZv1",
            ],
            &["rpc=svcAepBrpc", "rpc=svcXXXepYYYrpc", "rpc=svceprpc"],
            &[
                "tenant=t1prod,resource=resAv2",
                "tenant=t99prod,resource=resBBBv2",
            ],
            // A pattern in the key shares the values; other keys are other buckets.
            &["h-a=1", "h-a=2"],
            &["h-b=1"],
            &["apart=files/a"],
            &["apart=files/b"],
        ] {
            let mut taken = 0;
            for descriptor in group {
                taken += 1;
                let response = server.ask(ask("shared", &[descriptor])).unwrap();
                let status = &response.statuses[0];
                let limit = status.current_limit.as_ref().expect(descriptor);
                assert_eq!(
                    status.limit_remaining,
                    limit.requests_per_unit - taken,
                    "{descriptor} on {store}"
                );
            }
        }
        for other in ["midpath=/api/v2", "rpc=svcABCrpc"] {
            check(server, other, ask("shared", &[other]), "OK: OK");
        }
    });
}

#[test]
fn a_value_that_looks_like_the_pattern_is_the_pattern() {
    // In the bucket key a shared pattern has stars and a value cannot, so no other value reaches it.
    let rules = "
domain: d
descriptors:
  - {key: a, value: x*, share_threshold: true, rate_limit: {unit: year, requests_per_unit: 5}}
  - {key: b, value: x*, rate_limit: {unit: year, requests_per_unit: 5}}
";
    on_every_store(rules, &[], |server, store| {
        let row = |descriptor, expected| check(server, store, ask("d", &[descriptor]), expected);
        row("a=x*", "OK: OK 4 of 5/year");
        row("a=xy", "OK: OK 3 of 5/year");
        row("b=x*", "OK: OK 4 of 5/year");
        row("b=xy", "OK: OK 4 of 5/year");
    });
}
