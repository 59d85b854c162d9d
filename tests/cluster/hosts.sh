#!/bin/bash
# Hosts on one machine: each has its own network, process, mount and host-name namespace, its own home, /tmp/ray, /dev/shm
# and sshd, and a copy-on-write layer over the virtual environment, so that a cluster file's setup commands run as written.
#   HOSTS_DIR (empty folder), HOSTS_TAG (unique), VENV, WHEELS (folder of wheels, or empty)
#   HOSTS_NAMES      their names, separated by spaces; TAG-NAME has at most 15 characters; the one named client has the ssh key
#   hosts.sh up      they are at 10.77.0.2, .3 and so on; the process that is a host's init is in HOSTS_DIR/NAME/init
#   hosts.sh down    ends exactly these, and all that runs in them
# `ray up` and `ray down` run `ray stop`, which ends Ray by name: without a process namespace it would reach every Ray here.
set -eu
D=${HOSTS_DIR:?} T=${HOSTS_TAG:?}
NAMES=${HOSTS_NAMES:?}
SWITCH=$T-sw

up() {
    mkdir -p /run/sshd "$D/ssh"
    ssh-keygen -q -t ed25519 -N '' -f "$D/ssh/id_ed25519"
    ssh-keygen -q -t ed25519 -N '' -f "$D/ssh/host_key"
    ip netns add "$SWITCH"
    ip -n "$SWITCH" link add br0 type bridge
    ip -n "$SWITCH" addr add 10.77.0.1/24 dev br0
    ip -n "$SWITCH" link set br0 up
    local i=2 name
    for name in $NAMES; do
        wire "$name" "10.77.0.$i"
        furnish "$name"
        HOST=$name IP=10.77.0.$i ip netns exec "$T-$name" \
            unshare --mount --pid --uts --fork --kill-child --mount-proc bash "$0" boot > "$D/$name/log" 2>&1 &
        echo $! > "$D/$name/unshare"
        i=$((i + 1))
    done
    for name in $NAMES; do wait_for_init "$name"; done
}

wire() {  # name, address
    ip netns add "$T-$1"
    ip -n "$T-$1" link set lo up
    ip link add "$T-$1" netns "$SWITCH" type veth peer name eth0 netns "$T-$1"
    ip -n "$SWITCH" link set "$T-$1" master br0
    ip -n "$SWITCH" link set "$T-$1" up
    ip -n "$T-$1" addr add "$2/24" dev eth0
    ip -n "$T-$1" link set eth0 up
    ip -n "$T-$1" route add default via 10.77.0.1  # Ray finds its own address by a route to the outside
}

furnish() {  # name
    local home=$D/$1/home
    mkdir -p "$home/.ssh" "$home/.config/pip" "$D/$1/ray" "$D/$1/layer"
    sed "s|^root:.*|root:x:0:0:root:$home:/bin/bash|" /etc/passwd > "$D/$1/passwd"
    cp "$D/ssh/id_ed25519.pub" "$home/.ssh/authorized_keys"
    [ "$1" = client ] && cp "$D/ssh/id_ed25519" "$home/.ssh/"
    [ -n "${WHEELS:-}" ] && printf '[global]\nno-index = true\nfind-links = %s\n' "$WHEELS" > "$home/.config/pip/pip.conf"
    ln -s "$VENV" "$home/mm_ray_env"
}

boot() {  # runs as the first process of the host's own process namespace
    hostname "$HOST"
    mount -t tmpfs tmpfs /dev/shm
    mkdir -p /tmp/ray && mount --bind "$D/$HOST/ray" /tmp/ray
    mount --bind "$D/$HOST/passwd" /etc/passwd
    mount -t tmpfs tmpfs "$D/$HOST/layer"
    mkdir "$D/$HOST/layer/upper" "$D/$HOST/layer/work"
    mount -t overlay overlay -o "lowerdir=$VENV,upperdir=$D/$HOST/layer/upper,workdir=$D/$HOST/layer/work" "$VENV"
    touch "$D/$HOST/ready"
    exec /usr/sbin/sshd -D -e -f /dev/null -h "$D/ssh/host_key" -o ListenAddress="$IP" -o StrictModes=no -o UsePAM=no \
        -o PidFile=none -o PasswordAuthentication=no -o "AuthorizedKeysFile=.ssh/authorized_keys"
}

wait_for_init() {  # name
    local try
    for try in $(seq 100); do
        [ -e "$D/$1/ready" ] && child_of "$(cat "$D/$1/unshare")" > "$D/$1/init" && [ -s "$D/$1/init" ] && return
        sleep 0.1
    done
    cat "$D/$1/log" >&2
    return 1
}

child_of() { tr -d ' ' < "/proc/$1/task/$1/children"; }

down() {
    local name
    for name in $NAMES; do
        # The end of a process namespace's first process ends all others in it.
        [ -s "$D/$name/init" ] && kill -KILL "$(cat "$D/$name/init")" 2>/dev/null || true
        [ -s "$D/$name/unshare" ] && kill "$(cat "$D/$name/unshare")" 2>/dev/null || true
        ip netns del "$T-$name" 2>/dev/null || true
    done
    ip netns del "$SWITCH" 2>/dev/null || true
}

"$@"
