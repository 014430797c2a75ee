#!/usr/bin/env bash
# What a machine does when it boots, as the images of GPU nodes do: container runtime, user data by cloud-init, device plugin.
# Environment: GPUS, GPUS_AFTER_SECONDS, POD_NETWORK, and USER_DATA for a machine that is not EC2's.
set -uo pipefail
say() { echo "$(date +%H:%M:%S.%3N) $*"; }
export PATH=/opt/image/bin:/opt/node/bin:/opt/node/debian/usr/bin:/opt/node/debian/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
logs=/opt/machine
mkdir -p /etc/cni/net.d
# EC2's resolver knows every machine's name; here there is none to ask.
echo "$ADDRESS $(hostname)" >>/etc/hosts
sed "s#@PODS@#$POD_NETWORK#" /opt/image/cni.conflist >/etc/cni/net.d/10-lab.conflist
containerd --config /opt/image/containerd.toml >$logs/containerd.log 2>&1 &
for ((turn = 0; turn < 400; turn++)); do ctr version >/dev/null 2>&1 && break; sleep 0.05; done
ctr -n k8s.io images import /opt/node/workload.tar >$logs/import.log 2>&1 || say "the image could not be imported: $(tail -1 $logs/import.log)"
for image in /opt/image/more/*.tar; do [[ ! -e $image ]] || ctr -n k8s.io images import "$image" >>$logs/import.log 2>&1; done
say "container runtime is ready"
# It ends when its Node is not there yet; a DaemonSet would restart it.
while :; do kube-proxy --config=/opt/image/kube-proxy.yaml; sleep 1; done >$logs/kube-proxy.log 2>&1 &
if ((GPUS > 0)); then device-plugin --devices="$GPUS" --late="${GPUS_AFTER_SECONDS}s" >$logs/device-plugin.log 2>&1 & fi
if lowtide-lab cloud-init ${USER_DATA:+--file "$USER_DATA"} >$logs/cloud-init.log 2>&1; then
    say "user data is executed"
else
    say "user data failed: $(tail -3 $logs/cloud-init.log | tr '\n' ' ')"
fi
# Whoever loses its parent ends here.
while :; do wait -n 2>/dev/null; sleep 0.2; done
