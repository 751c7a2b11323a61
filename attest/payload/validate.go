package payload

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The bounds on what is declared. The least of memory and processes are what
// starting it takes.
const (
	maxWords     = 64
	maxWordBytes = 4096
	maxHosts     = 64
	maxPathBytes = 255
	// maxSocketBytes is one less than a Unix socket's address has room for.
	maxSocketBytes = 107
	leastUser      = 1000
	mostUser       = 65533
	leastPort      = 1024
	mostPort       = 65535
	leastMemory    = 32 << 20
	mostMemory     = 1 << 44
	leastProcesses = 32
	mostProcesses  = 1 << 20
	leastFiles     = 16
	mostFiles      = 1 << 20
)

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,254}$`)

// own begins the names of variables that the machine sets.
const own = "SHED_"

// Validate fails closed. The error is ErrSpec and names the field.
func (s *Spec) Validate() error {
	for _, check := range []func() error{s.validCommand, s.validEnvironment, s.validPlace, s.Limits.validate, s.Network.validate} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) validCommand() error {
	if len(s.Command) == 0 || len(s.Command) > maxWords {
		return unusable("command has %d words, want 1 to %d", len(s.Command), maxWords)
	}
	for i, word := range s.Command {
		if !isText(word) {
			return unusable("command[%d] is not text of at most %d bytes without control characters", i, maxWordBytes)
		}
	}
	if p := s.Command[0]; !isAbsolute(p) || p == "/" {
		return unusable("command[0] %q is not a path in the payload's root, such as /bin/server", p)
	}
	return nil
}

func (s *Spec) validEnvironment() error {
	if len(s.Environment) > maxWords {
		return unusable("environment has %d entries, at most %d", len(s.Environment), maxWords)
	}
	last := ""
	for i, entry := range s.Environment {
		name, value, ok := strings.Cut(entry, "=")
		switch {
		case !ok || !variable.MatchString(name):
			return unusable("environment[%d] %.80q is not NAME=value", i, entry)
		case strings.HasPrefix(name, own):
			return unusable("environment[%d] %s: names that begin with %s are the machine's own", i, name, own)
		case !isText(value):
			return unusable("environment[%d] %s is not text of at most %d bytes without control characters", i, name, maxWordBytes)
		case name <= last:
			return unusable("environment[%d] %s is out of order or repeated", i, name)
		}
		last = name
	}
	return nil
}

func (s *Spec) validPlace() error {
	if s.User < leastUser || s.User > mostUser {
		return unusable("user is %d, want %d to %d", s.User, leastUser, mostUser)
	}
	if len(s.Health) > maxPathBytes || !strings.HasPrefix(s.Health, "/") || strings.ContainsFunc(s.Health, notPath) {
		return unusable("health %q is not a path such as /health", s.Health)
	}
	switch socket, port := s.Listen.Socket, s.Listen.Port; {
	case (socket == "") == (port == 0):
		return unusable("listen wants a socket or a port")
	case port != 0 && (port < leastPort || port > mostPort):
		return unusable("listen.port is %d, want %d to %d", port, leastPort, mostPort)
	case socket != "" && (!isAbsolute(socket) || path.Dir(socket) != SocketDir || len(socket) > maxSocketBytes || strings.ContainsFunc(socket, notPath)):
		return unusable("listen.socket %q is not a file of %s", socket, SocketDir)
	}
	return nil
}

func (l *Limits) validate() error {
	switch {
	case l.MemoryBytes != 0 && (l.MemoryBytes < leastMemory || l.MemoryBytes > mostMemory):
		return unusable("limits.memory_bytes is %d, want 0 for all, or %d to %d", l.MemoryBytes, leastMemory, int64(mostMemory))
	case l.Processes < leastProcesses || l.Processes > mostProcesses:
		return unusable("limits.processes is %d, want %d to %d", l.Processes, leastProcesses, mostProcesses)
	case l.OpenFiles < leastFiles || l.OpenFiles > mostFiles:
		return unusable("limits.open_files is %d, want %d to %d", l.OpenFiles, leastFiles, mostFiles)
	}
	return nil
}

func (n *Network) validate() error {
	switch n.Right {
	case Off, Open:
		if n.Hosts != nil {
			return unusable("network.hosts are for the right %s, not for %s", Listed, n.Right)
		}
		return nil
	case Listed:
	default:
		return unusable("network.right %q is none of %s, %s and %s", n.Right, Off, Listed, Open)
	}
	if len(n.Hosts) == 0 || len(n.Hosts) > maxHosts {
		return unusable("network.hosts has %d entries, want 1 to %d", len(n.Hosts), maxHosts)
	}
	for i, h := range n.Hosts {
		if err := h.validate(); err != nil {
			return unusable("network.hosts[%d]: %w", i, err)
		}
	}
	if !slices.IsSortedFunc(n.Hosts, Host.Compare) || len(slices.Compact(slices.Clone(n.Hosts))) != len(n.Hosts) {
		return unusable("network.hosts are out of order or repeated")
	}
	return nil
}

func isText(s string) bool {
	return len(s) <= maxWordBytes && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

func isAbsolute(p string) bool { return path.IsAbs(p) && path.Clean(p) == p }

// notPath is no character of a path that a terminal or a request could mistake.
func notPath(r rune) bool { return r <= ' ' || r > '~' }
