package qemu

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/tap"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// An address is one machine's until there is none left, and nobody else's is
// opened: neither the host's own nor one outside of the network.
func TestAddressesAreOneMachines(t *testing.T) {
	c := exampleConfig()
	c.Network = &tap.Network{Namespace: "shed-test-absent", Range: netip.MustParsePrefix("10.7.0.0/29"), Gateway: netip.MustParseAddr("10.7.0.1")}
	p := New(Options{})
	given := map[netip.Addr]bool{}
	for range 5 {
		port, address, err := p.place(c)
		if err != nil || port != 0 || given[address] {
			t.Fatalf("given %s and port %d again, %v", address, port, err)
		}
		given[address] = true
		p.takePlace(record{Address: address})
	}
	if _, address, err := p.place(c); providers.CodeOf(err) != providers.CodeQuota {
		t.Errorf("one more: %s, %v", address, err)
	}
	r := exampleRecord()
	for _, address := range []string{"10.7.0.1", "10.7.0.0", "10.7.0.7", "10.8.0.2"} {
		r.Address = netip.MustParseAddr(address)
		if card, err := c.openCard(r); !errors.Is(err, errNoNetwork) || card != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	r.Address = netip.MustParseAddr("10.7.0.2")
	if _, err := c.openCard(r); errors.Is(err, errNoNetwork) || err == nil {
		t.Errorf("its own: %v", err)
	}
	if name := r.cardName(); len(name) != 15 || name[4:] != string(r.Machine[:11]) {
		t.Errorf("the card is called %s", name)
	}
}

// A machine's bound is of what it was made with, whatever is made now.
func TestMemoryOfAMachineIsBounded(t *testing.T) {
	l := limits{Cgroup: "/groups", MemoryExtraBytes: 64 << 20, CPUWeight: 50, CPUPercent: 150, IOWeight: 20, Pids: 32}
	if err := l.check(); err != nil {
		t.Error(err)
	}
	got := l.of(1 << 30)
	if got.MemoryBytes != 1<<30+64<<20 || got.CPUWeight != 50 || got.CPUPercent != 150 || got.IOWeight != 20 || got.Pids != 32 {
		t.Errorf("%+v", got)
	}
	c, r := exampleConfig(), exampleRecord()
	c.Limits, c.MemoryBytes, r.MemoryBytes = &limits{Cgroup: t.TempDir(), MemoryExtraBytes: 1}, 1<<30, 2<<30
	group := filepath.Join(c.Limits.Cgroup, groupName(r.Machine))
	if err := os.Mkdir(group, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"memory.max", "memory.oom.group"} {
		if err := os.WriteFile(filepath.Join(group, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := c.openGroup(r)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := os.ReadFile(filepath.Join(group, "memory.max")); string(b) != "2147483649" || err != nil {
		t.Errorf("memory.max is %q, %v", b, err)
	}
	l.MemoryExtraBytes = 0
	if got := l.of(1 << 30); got.MemoryBytes != 0 {
		t.Errorf("without a bound: %+v", got)
	}
	for name, bad := range map[string]limits{
		"memory_extra_bytes": {Cgroup: "/groups", MemoryExtraBytes: -1}, "cgroup": {Cgroup: "groups"}, "cpu_weight": {Cgroup: "/groups", CPUWeight: -1},
	} {
		if bad.check() == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// The host's firmware is not for the machines of another architecture.
func TestNoFirmwareOfTheHostsForAnotherArchitecture(t *testing.T) {
	c := exampleConfig()
	c.StateDir = t.TempDir()
	if err := c.makeDirs(); err != nil {
		t.Fatal(err)
	}
	release := attest.ReleaseDigest{1}
	dir := filepath.Dir(c.imagePath(release))
	info, err := json.Marshal(sdk.ImageInfo{Architecture: board.ARM64})
	if err = errors.Join(err, os.MkdirAll(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, imageInfoFile), info, 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := c.firmware(release); err == nil {
		t.Errorf("it starts with %+v", f)
	}
}
