package payload_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest/payload"
)

func python() payload.Spec {
	s := payload.Default()
	s.Command = []string{"/usr/bin/python3", "-u", "/srv/server.py"}
	s.Environment = []string{"LANG=C.UTF-8", "PYTHONPATH=/srv/lib"}
	s.Listen = payload.Listen{Port: 8000}
	s.Limits = payload.Limits{MemoryBytes: 64 << 20, Processes: 64, OpenFiles: 256}
	s.Network = payload.Network{Right: payload.Listed, Hosts: []payload.Host{{Name: "2001:db8::1", Port: 443}, {Name: "example.com", Port: 443}}}
	return s
}

func TestWhatIsEncodedIsParsed(t *testing.T) {
	for _, s := range []payload.Spec{payload.Toolshed(), python()} {
		b, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := payload.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(*again, s) {
			t.Errorf("parsed %+v, encoded %+v", *again, s)
		}
		for name, other := range map[string][]byte{
			"spaces":   append([]byte(" "), b...),
			"trailing": append(bytes.Clone(b), '{', '}'),
			"unknown":  bytes.Replace(b, []byte(`"user"`), []byte(`"root": true, "user"`), 1),
			"long":     append(bytes.Clone(b), make([]byte, payload.MaxBytes)...),
		} {
			if _, err := payload.Parse(other); !errors.Is(err, payload.ErrSpec) {
				t.Errorf("%s: error %v", name, err)
			}
		}
	}
}

// A field that is unset, too large or not granted is refused by its name.
func TestWhatIsRefused(t *testing.T) {
	for field, change := range map[string]func(*payload.Spec){
		"command has 0":            func(s *payload.Spec) { s.Command = nil },
		"command has 65":           func(s *payload.Spec) { s.Command = append(s.Command, make([]string, 64)...)[:65] },
		"command[0]":               func(s *payload.Spec) { s.Command[0] = "python3" },
		`command[0] "/../init"`:    func(s *payload.Spec) { s.Command[0] = "/../init" },
		`command[0] "/"`:           func(s *payload.Spec) { s.Command[0] = "/" },
		"command[1]":               func(s *payload.Spec) { s.Command[1] = "a\x1bb" },
		"command[2]":               func(s *payload.Spec) { s.Command[2] = strings.Repeat("x", 4097) },
		"environment[0]":           func(s *payload.Spec) { s.Environment[0] = "=x" },
		"environment has 65":       func(s *payload.Spec) { s.Environment = make([]string, 65) },
		"begin with SHED_":         func(s *payload.Spec) { s.Environment[0] = "SHED_SOCKET=/x" },
		"environment[1] LANG":      func(s *payload.Spec) { s.Environment[1] = "LANG=de" },
		"environment[1] Q is not":  func(s *payload.Spec) { s.Environment[1] = "Q=a\nb" },
		"user is 0":                func(s *payload.Spec) { s.User = 0 },
		"user is 999":              func(s *payload.Spec) { s.User = 999 },
		"user is 65534":            func(s *payload.Spec) { s.User = 65534 },
		"health":                   func(s *payload.Spec) { s.Health = "health" },
		`health "/a b"`:            func(s *payload.Spec) { s.Health = "/a b" },
		"a socket or a port":       func(s *payload.Spec) { s.Listen = payload.Listen{} },
		"listen wants a socket":    func(s *payload.Spec) { s.Listen.Socket = "/run/payload/s" },
		"listen.port is 443":       func(s *payload.Spec) { s.Listen.Port = 443 },
		"listen.port is 70000":     func(s *payload.Spec) { s.Listen.Port = 70000 },
		"listen.socket":            func(s *payload.Spec) { s.Listen = payload.Listen{Socket: "/data/s"} },
		"limits.memory_bytes":      func(s *payload.Spec) { s.Limits.MemoryBytes = 1 << 20 },
		"limits.memory_bytes is -": func(s *payload.Spec) { s.Limits.MemoryBytes = -1 },
		"limits.processes":         func(s *payload.Spec) { s.Limits.Processes = 0 },
		"limits.open_files":        func(s *payload.Spec) { s.Limits.OpenFiles = 3 },
		"network.right":            func(s *payload.Spec) { s.Network.Right = "" },
		"network.right \"any\"":    func(s *payload.Spec) { s.Network.Right = "any" },
		"network.hosts has 0":      func(s *payload.Spec) { s.Network.Hosts = nil },
		"network.hosts are for":    func(s *payload.Spec) { s.Network.Right = payload.Open },
		"order or repeated":        func(s *payload.Spec) { s.Network.Hosts[1] = s.Network.Hosts[0] },
		"network.hosts[1]: the":    func(s *payload.Spec) { s.Network.Hosts[1].Port = 0 },
		"no payload reaches":       func(s *payload.Spec) { s.Network.Hosts[0].Name = "169.254.169.254" },
	} {
		s := python()
		change(&s)
		if _, err := s.Encode(); !errors.Is(err, payload.ErrSpec) || !strings.Contains(fmt.Sprint(err), field) {
			t.Errorf("%s: error %v", field, err)
		}
	}
}

func TestParseNetwork(t *testing.T) {
	for text, want := range map[string]string{
		"off": "off", "open": "open",
		"example.com:443":               "example.com:443",
		"b.example:1,a.example:2":       "a.example:2,b.example:1",
		"[2001:db8::1]:443, 10.0.0.5:1": "10.0.0.5:1,[2001:db8::1]:443",
		"_srv.example:53":               "_srv.example:53",
		"a.example:1,a.example:1":       "a.example:1",
	} {
		n, err := payload.ParseNetwork(text)
		if err != nil || n.String() != want {
			t.Errorf("%q: %q, error %v", text, n, err)
		}
	}
	for _, text := range []string{
		"", "listed", "example.com", "example.com:", "example.com:0", "example.com:65536", "Example.com:443", "-a.example:1",
		"a..example:1", "a.example.:1", "*.example:1", "1.2.3:4", "1.2.3.4.5:6", "2001:db8::1:443", "[2001:DB8::1]:443", "[1.2.3.4]:5",
		"[::ffff:1.2.3.4]:5", "[fe80::1%eth0]:1", "127.0.0.1:80", "[::1]:80", "169.254.169.254:80", "[64:ff9b::7f00:1]:80",
		"[2002:7f00:1::]:80", "[fd00:ec2::254]:80", "[fec0::2]:22", "0.0.0.0:22", "168.63.129.16:80", "a.example:1,", "255.255.255.255:9",
		strings.Repeat("a.", 130) + "example:1", strings.Repeat("a", 64) + ".example:1", "a b.example:1",
	} {
		if n, err := payload.ParseNetwork(text); !errors.Is(err, payload.ErrSpec) {
			t.Errorf("%q was read as %q, error %v", text, n, err)
		}
	}
}

// Ordinary addresses are not among those that nobody reaches.
func TestNever(t *testing.T) {
	for _, text := range []string{"1.1.1.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "2606:4700::1111", "fd12::1", "64:ff9b::101:101", "2002:101:101::1"} {
		if payload.IsNever(netip.MustParseAddr(text)) {
			t.Errorf("%s is refused", text)
		}
	}
	for _, text := range []string{
		"127.9.9.9", "::1", "::", "0.0.0.0", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "169.254.0.1", "224.0.0.1", "255.255.255.255",
		"fe80::1", "ff02::1", "fec0::2", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42",
		"64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:a9fe:a9fe::1", "2001:0:1::1", "::127.0.0.1", "::ffff:0:7f00:1",
	} {
		if !payload.IsNever(netip.MustParseAddr(text)) {
			t.Errorf("%s is not refused", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []payload.Spec{payload.Toolshed(), python()} {
		b, err := s.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"command":["/x"],"network":{"right":"listed","hosts":["[::1]:1"]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := payload.Parse(b)
		if err != nil {
			if !errors.Is(err, payload.ErrSpec) {
				t.Fatalf("error %v", err)
			}
			return
		}
		again, err := s.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("encoded again: %q, error %v", again, err)
		}
	})
}
