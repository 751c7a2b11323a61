package agent_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/agent/seal"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// replaced is a machine that stands in for a claimed one, with its disk.
func replaced(t *testing.T) (m *machine, keys client.Keys) {
	t.Helper()
	lost, keys, _ := claimed(t)
	m = newMachine(t)
	m.disk = lost.disk
	m.reboot()
	return m, keys
}

func (m *machine) connect() *client.Session {
	m.t.Helper()
	s, err := m.trust().Connect(m.t.Context(), m.url, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { s.Close() })
	return s
}

// The owner of a lost machine gets the data on another: nothing ran on it, or in
// its place, before.
func TestDataOfALostMachine(t *testing.T) {
	m, keys := replaced(t)
	if !m.Awaiting() || len(m.data.mounted) != 0 {
		t.Fatalf("awaiting %t, mounted %v", m.Awaiting(), m.data.mounted)
	}
	s := m.connect()
	if err := s.Claim(t.Context(), newKeys(t)); status(err) != http.StatusConflict {
		t.Errorf("a stranger's claim: %v", err)
	}
	left, err := s.Left(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Recover(t.Context(), newKeys(t), left); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("with another's recovery key: %v", err)
	}
	if err := s.Recover(t.Context(), keys, left); err != nil {
		t.Fatal(err)
	}
	if m.Awaiting() || strings.Join(m.data.mounted, " ") != m.disk {
		t.Errorf("awaiting %t, mounted %v", m.Awaiting(), m.data.mounted)
	}
	if err := s.Recover(t.Context(), keys, left); status(err) != http.StatusConflict {
		t.Errorf("a second time: %v", err)
	}
	pin := s.Pin()
	m.reboot()
	again, err := m.trust().Connect(t.Context(), m.url, &pin)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if strings.Join(m.data.mounted, " ") != m.disk {
		t.Errorf("after a boot mounted %v", m.data.mounted)
	}
	if _, err := again.Left(t.Context(), newKeys(t)); status(err) != http.StatusUnauthorized {
		t.Errorf("a stranger asks what is on the disk: %v", err)
	}
}

func status(err error) int {
	var s *channel.StatusError
	if errors.As(err, &s) {
		return s.Code
	}
	return 0
}

// Whoever brings a key that is not the volume's does not become the owner.
func TestStrangerBringsAKey(t *testing.T) {
	m, keys := replaced(t)
	s := m.connect()
	left, err := s.Left(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	stranger := sign(t, newKeys(t), m.akName())
	for name, err := range map[string]error{
		"another key":    m.Recover(t.Context(), stranger, left.Volume, make([]byte, 16)),
		"another volume": m.Recover(t.Context(), stranger, seal.VolumeID{1}, make([]byte, 16)),
	} {
		if !errors.Is(err, seal.ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if m.Owner() != nil || !m.Awaiting() {
		t.Errorf("owner %v, awaiting %t", m.Owner(), m.Awaiting())
	}
	if err := s.Recover(t.Context(), keys, left); err != nil {
		t.Error(err)
	}
}

// A recovery that breaks off after the claim is finished by the owner's next try.
func TestRecoveryThatBreaksOff(t *testing.T) {
	m, keys := replaced(t)
	device := &failing{codes: []tpm2.TPMCC{tpm2.TPMCCHierarchyChanegAuth}}
	m.wrap = func(under transport.TPM) transport.TPM {
		device.TPM = under
		return device
	}
	m.reboot()
	s := m.connect()
	left, err := s.Left(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	device.broken = true
	if err := s.Recover(t.Context(), keys, left); err == nil {
		t.Fatal("the data is open with an open tpm")
	}
	device.broken = false
	again := m.connect()
	if left, err = again.Left(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	if err := again.Recover(t.Context(), keys, left); err != nil {
		t.Fatal(err)
	}
	if m.Awaiting() {
		t.Error("the data still waits")
	}
}

// A volume that the owner's key opens, and that does not mount, can be tried again
// without a restart of the machine.
func TestRecoveryThatDoesNotMount(t *testing.T) {
	m, keys := replaced(t)
	s := m.connect()
	left, err := s.Left(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	m.data.broken = errors.New("the disk does not answer")
	if err := s.Recover(t.Context(), keys, left); status(err) != http.StatusInternalServerError {
		t.Fatal(err)
	}
	m.data.broken = nil
	again := m.connect()
	if left, err = again.Left(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	if err := (client.ClientState{Dir: t.TempDir()}).KnowsVolume(left); err != nil {
		t.Errorf("the machine does not vouch for the volume that it took over: %v", err)
	}
	if err := again.Recover(t.Context(), keys, left); err != nil {
		t.Fatal(err)
	}
	if m.Awaiting() {
		t.Error("the data still waits")
	}
}

// A machine whose key opened the volume does not ask its owner for the key: what
// does not mount, or does not start, no key mends.
func TestVolumeThatDoesNotMountAwaitsNobody(t *testing.T) {
	m, _, _ := claimed(t)
	m.broken = errors.New("bad superblock")
	m.reboot()
	if m.Awaiting() {
		t.Error("it asks for a key that it has")
	}
}

// keyOf is the key of what stands on the machine's disk, as its owner finds it.
func (m *machine) keyOf(keys client.Keys) (*seal.Left, []byte) {
	m.t.Helper()
	left, err := m.Left()
	if err != nil || left == nil {
		m.t.Fatalf("%v, %v", left, err)
	}
	opened, err := ownership.OpenRecovery(keys.Recovery, ownership.RecoveryContext(left.Volume, left.Claim), left.Recovery)
	if err != nil {
		m.t.Fatal(err)
	}
	return left, opened.VolumeKey
}

// A claim that came with a key and was not followed through is the machine's:
// another that comes with the key is refused, and the key alone goes on from it.
func TestRecoveryAfterAClaimThatIsNotInTheRegister(t *testing.T) {
	m, keys := replaced(t)
	device := &failing{codes: []tpm2.TPMCC{tpm2.TPMCCPCRExtend}}
	m.wrap = func(under transport.TPM) transport.TPM {
		device.TPM = under
		return device
	}
	m.reboot()
	left, key := m.keyOf(keys)
	own, another := sign(t, keys, m.akName()), sign(t, newKeys(t), m.akName())
	device.broken = true
	if err := m.Recover(t.Context(), own, left.Volume, key); err == nil || m.Owner() != nil {
		t.Fatalf("taken over without the register: %v", err)
	}
	device.broken = false
	if err := m.Recover(t.Context(), another, left.Volume, key); !errors.Is(err, seal.ErrClaimed) || !m.Awaiting() {
		t.Errorf("another claim: %v, awaiting %t", err, m.Awaiting())
	}
	if m.Owner() == nil || m.Owner().Digest() != own.Digest() {
		t.Fatal("the machine is not the first claim's")
	}
	if err := m.Recover(t.Context(), nil, left.Volume, key); err != nil || m.Awaiting() {
		t.Errorf("the key alone: %v, awaiting %t", err, m.Awaiting())
	}
}

// An owner who leaves once the key is handed over does not stop the rest.
func TestRecoveryGoesOnWithoutItsClient(t *testing.T) {
	m, keys := replaced(t)
	left, key := m.keyOf(keys)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Recover(ctx, sign(t, keys, m.akName()), left.Volume, key); err != nil {
		t.Error(err)
	}
	if m.Awaiting() || strings.Join(m.data.mounted, " ") != m.disk {
		t.Errorf("awaiting %t, mounted %v", m.Awaiting(), m.data.mounted)
	}
}

// The key of the data makes nobody the owner by another machine's claim, or by
// none.
func TestRecoveryTakesThisMachinesClaim(t *testing.T) {
	m, keys := replaced(t)
	left, key := m.keyOf(keys)
	foreign := bytes.Clone(m.akName())
	foreign[10]++
	for name, c := range map[string]*ownership.Claim{"none": nil, "another machine's": sign(t, keys, foreign)} {
		if err := m.Recover(t.Context(), c, left.Volume, key); !errors.Is(err, attest.ErrClaim) || m.Owner() != nil || !m.Awaiting() {
			t.Errorf("%s: %v, owner %v, awaiting %t", name, err, m.Owner(), m.Awaiting())
		}
	}
}

// A machine with a volume of its own does not wait for the owner of another.
func TestAnothersDiskDoesNotWait(t *testing.T) {
	another, _, _ := claimed(t)
	m, _, _ := claimed(t)
	m.disk = another.disk
	m.reboot()
	if m.Awaiting() {
		t.Error("another machine's data waits for this one's owner")
	}
}

// A machine without anything on its disk has nothing to recover, and one with
// something else does not touch it.
func TestNothingToRecover(t *testing.T) {
	m := newMachine(t)
	s := m.connect()
	if _, err := s.Left(t.Context(), newKeys(t)); !errors.Is(err, client.ErrNothingLeft) {
		t.Error(err)
	}
	if err := m.Recover(t.Context(), nil, seal.VolumeID{}, nil); !errors.Is(err, seal.ErrNothingLeft) {
		t.Error(err)
	}
	if err := os.WriteFile(m.disk, append([]byte("somebody's data"), make([]byte, 8<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	m.reboot()
	if m.Awaiting() {
		t.Error("a foreign disk waits for an owner of ours")
	}
}

// The host, which can write the disk at any time, has the owner's client remember
// no volume but the one that the machine has opened: to a volume that the host has
// made, and knows the key of, the owner would hand that key one day.
func TestHeaderThatTheHostPlants(t *testing.T) {
	m, keys, pin := claimed(t)
	mine, err := m.connect().Left(t.Context(), keys)
	if err != nil || !mine.Vouched {
		t.Fatalf("%+v, %v", mine, err)
	}
	hosts, _, _ := claimed(t)
	own, planted := readDisk(t, m.disk), readDisk(t, hosts.disk)
	writeDisk(t, m.disk, planted)
	if left, err := m.connect().Left(t.Context(), keys); err != nil || left.Volume != mine.Volume || left.Claim != mine.Claim {
		t.Errorf("%+v, %v, want %+v", left, err, mine)
	}
	// Under the volume's own id the machine waits for its owner, who may ask.
	writeDisk(t, m.disk, bytes.ReplaceAll(own, mine.Wrapped, bytes.Repeat([]byte{1}, len(mine.Wrapped))))
	rehash(t, m.disk)
	m.reboot()
	s, err := m.trust().Connect(t.Context(), m.url, &pin)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	left, err := s.Left(t.Context(), keys)
	if err != nil || left.Vouched || bytes.Equal(left.Wrapped, mine.Wrapped) {
		t.Fatalf("%+v, %v", left, err)
	}
	state := client.ClientState{Dir: t.TempDir()}
	for name, err := range map[string]error{"remembered": state.RememberVolume(left, s.Result.Tiers), "known": state.KnowsVolume(left)} {
		if !errors.Is(err, client.ErrUnknownVolume) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func readDisk(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeDisk(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// rehash makes a changed header whole again: the sum behind it is no secret.
func rehash(t *testing.T, path string) {
	t.Helper()
	b := readDisk(t, path)
	end := 12 + int(binary.BigEndian.Uint32(b[8:]))
	sum := attest.Sum(b[:end])
	copy(b[end:], sum[:])
	writeDisk(t, path, b)
}
