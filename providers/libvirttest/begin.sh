# The first process of a host's namespaces: puts the host's directories in place
# of the system's, starts the daemon, and reaps whatever is left to it.
set -eu
dir=$1
mount -t proc proc /proc
mount --bind "$dir/etc" /etc/libvirt
mount --bind "$dir/lib" /var/lib/libvirt
mount --bind "$dir/cache" /var/cache/libvirt
mount --bind "$dir/log" /var/log/libvirt
mount --bind "$dir/swtpm-log" /var/log/swtpm
mount --bind "$dir/swtpm_setup.conf" /etc/swtpm_setup.conf
mount --bind "$dir/ca" /var/lib/swtpm-localca
mount --bind "$dir/run" /run
chown -R tss /var/lib/swtpm-localca
chmod 1777 /var/lib/libvirt/tmp
export TMPDIR=/var/lib/libvirt/tmp
/usr/sbin/libvirtd --config /etc/libvirt/libvirtd.conf &
while :; do
	wait || true
	# Nobody is left to wait for once the daemon has ended.
	kill -0 $! 2>/dev/null || exit 1
done
