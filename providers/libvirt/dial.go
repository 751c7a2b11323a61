package libvirt

import (
	"fmt"
	"net"
	"net/url"
	"os/user"
	"slices"
	"sync"

	"github.com/digitalocean/go-libvirt/socket"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

// The ways to a daemon. There is none that does not know whom it speaks with.
const (
	schemeUnix = "qemu+unix"
	schemeTLS  = "qemu+tls"
	schemeSSH  = "qemu+ssh"
)

// dialer reads where a host's daemon is. What it does not know of a URI, it
// refuses: an option that was meant to make a connection safer must not be
// lost.
func dialer(text string) (socket.Dialer, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("uri: %w", err)
	}
	known := map[string][]string{
		schemeUnix: {"socket"},
		schemeTLS:  {"pkipath"},
		schemeSSH:  {"keyfile", "socket"},
	}
	options, ok := known[u.Scheme]
	_, password := u.User.Password()
	switch {
	case !ok:
		return nil, fmt.Errorf("uri %q begins with neither qemu+unix, qemu+tls nor qemu+ssh", u.Redacted())
	case u.Path != "/system":
		return nil, fmt.Errorf("uri %q does not end with /system", u.Redacted())
	case (u.Host == "") != (u.Scheme == schemeUnix):
		return nil, fmt.Errorf("uri %q: qemu+unix is this host, the others name one", u.Redacted())
	case u.User != nil && (password || u.Scheme != schemeSSH):
		return nil, fmt.Errorf("uri %q: a user is for qemu+ssh, and a password for none", u.Redacted())
	}
	for name := range u.Query() {
		if !slices.Contains(options, name) {
			return nil, fmt.Errorf("uri %q: option %q is not one of %v", u.Redacted(), name, options)
		}
	}
	return dialerOf(u)
}

func dialerOf(u *url.URL) (socket.Dialer, error) {
	q := u.Query()
	switch u.Scheme {
	case schemeUnix:
		var options []dialers.LocalOption
		if s := q.Get("socket"); s != "" {
			options = append(options, dialers.WithSocket(s))
		}
		return dialers.NewLocal(options...), nil
	case schemeTLS:
		var options []dialers.TLSOption
		if port := u.Port(); port != "" {
			options = append(options, dialers.UseTLSPort(port))
		}
		if path := q.Get("pkipath"); path != "" {
			options = append(options, dialers.UsePKIPath(path))
		}
		return dialers.NewTLS(u.Hostname(), options...), nil
	}
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("uri: finding the known hosts: %w", err)
	}
	options := []dialers.SSHOption{dialers.WithSystemSSHDefaults(me), dialers.UseSSHUsername(u.User.Username())}
	if port := u.Port(); port != "" {
		options = append(options, dialers.UseSSHPort(port))
	}
	if s := q.Get("socket"); s != "" {
		options = append(options, dialers.WithRemoteSocket(s))
	}
	if file := q.Get("keyfile"); file != "" {
		options = append(options, dialers.UseKeyFile(file))
	}
	return dialers.NewSSH(u.Hostname(), options...), nil
}

// keeper remembers what was dialled, so that a connection whose other end hangs
// can be cut.
type keeper struct {
	socket.Dialer
	// streams says that the connection is for one stream.
	streams bool

	mu sync.Mutex
	// mu guards conn.
	conn net.Conn
}

var _ socket.Dialer = (*keeper)(nil)

func (k *keeper) Dial() (net.Conn, error) {
	conn, err := k.Dialer.Dial()
	if err != nil {
		return nil, err
	}
	if k.streams {
		conn = newFrames(conn)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conn = conn
	return conn, nil
}

func (k *keeper) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn != nil {
		_ = k.conn.Close()
	}
}
