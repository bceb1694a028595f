//! Background tasks while buckets are in Redis: probing each server, and watching the topology of a cluster.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, select_all};

use crate::store::fallback::{ProbeSettings, Prober, Standby};
use crate::store::redis::{
    BucketsSettings, NodeProbe, RedisSettings, ServerProbe, SharedServer, SharedServers,
    is_cluster_error,
};

/// Probes each Redis and watches clusters. Never completes.
///
/// Probes use connections of their own, so that no request waits for a probe.
pub(super) fn probe_redis(
    redis: &BucketsSettings,
    shared: &SharedServers,
    standby: &Standby,
    probe: &ProbeSettings,
) -> impl Future<Output = Infallible> + 'static + use<> {
    let one = |(redis, common): (&RedisSettings, &SharedServer)| {
        let probed = ServerProbe::new(redis, common, &probe.keys);
        let prober = Prober::new(probed, standby.clone(), probe.clone());
        [
            prober.watching(common.breaker().clone()).run().boxed(),
            watch_cluster(common, standby, probe),
        ]
    };
    let seconds = redis.seconds.as_ref().zip(shared.seconds.as_ref());
    let all = [(&redis.others, &shared.others)].into_iter().chain(seconds);
    let shortfall = standby.clone().watch_shortfall().boxed();
    let all = all.flat_map(one).chain([shortfall]);
    let all = select_all(all.collect::<Vec<_>>());
    all.map(|(never, _, _)| never)
}

/// Watches the topology of a cluster and probes each of its nodes. Does nothing for other kinds of Redis.
fn watch_cluster(
    common: &SharedServer,
    standby: &Standby,
    probe: &ProbeSettings,
) -> BoxFuture<'static, Infallible> {
    let SharedServer::Cluster(cluster) = common else {
        return pending().boxed();
    };
    let (cluster, standby, probe) = (Arc::clone(cluster), standby.clone(), probe.clone());
    async move {
        let of_all = standby.clone();
        let watched = Arc::clone(&cluster);
        let tend = |node| {
            let probed = NodeProbe::new(&cluster, &node, &probe.keys);
            let breaker = node.breaker().clone();
            Prober::new(probed, standby.clone(), probe.clone())
                .of_node(breaker, move || node.undecided(), is_cluster_error)
                .run()
        };
        watched.watch(tend, move || of_all.decided()).await
    }
    .boxed()
}
