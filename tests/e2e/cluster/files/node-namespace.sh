#!/bin/sh
# Runs as the first process of a node's mount and network namespaces and holds them: usage node-namespace.sh NODE-FOLDER.
# What the kubelet and containerd expect at fixed places is the node's own folder here, so two nodes share a
# machine and nothing stays on it: mounts made in here end with the namespace.
set -eu
node=$1

mount --make-rshared /          # volumes with mount propagation need it; the namespace itself is private
for place in /run /var/lib /var/log; do
    mount -t tmpfs -o mode=755 tmpfs "$place"
done
# Mount points must not be folders of the host: whoever removes one there ends the mount in here.
mkdir -p /run/cdi /run/lock /run/netns /var/lib/kubelet /var/log/pods /var/log/containers
mount --bind "$node/cdi" /run/cdi
mount --bind "$node/kubelet" /var/lib/kubelet
mount --bind "$node/pods" /var/log/pods
mount --bind "$node/containers" /var/log/containers

touch "$node/namespace-ready"
exec sleep 2147483647
