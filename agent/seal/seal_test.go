package seal

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// recordingMapper stands where device mapper is, which needs a kernel of one's
// own; the real one is exercised by the tests that boot machines.
type recordingMapper struct{ key []byte }

func (m *recordingMapper) Make(disk string, key []byte) (string, error) { return m.Map(disk, key) }

func (m *recordingMapper) Map(disk string, key []byte) (string, error) {
	m.key = bytes.Clone(key)
	return disk, nil
}

func (m *recordingMapper) Unmap() error { m.key = nil; return nil }

// machine is a real software TPM and a file for a disk.
type machine struct {
	t       *testing.T
	device  *swtpmtest.TPM
	tpm     *attester.TPM
	volume  *DataVolume
	mapper  *recordingMapper
	formats int
	// failFormat is the next format's error.
	failFormat error
	// recovery is the owner's key of the latest claim.
	recovery *ecdh.PrivateKey
	// wrap stands between the machine and its TPM from the next boot on.
	wrap func(transport.TPM) transport.TPM
	// image boots next.
	image string
	// owner signed the latest claim.
	owner ed25519.PrivateKey
	// update is what the next claim says of updates.
	update ownership.UpdatePolicy
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, device: swtpmtest.Start(t), mapper: &recordingMapper{}, image: "image"}
	m.update = ownership.UpdatePolicy{Consent: ownership.UpdateAsk, Keys: [][]byte{{1}}}
	m.volume = &DataVolume{Mapper: m.mapper, Rand: rand.Reader, Disk: newDisk(t), Epoch: 3}
	m.volume.Format = func(context.Context, string) error {
		m.formats++
		return m.failFormat
	}
	m.open()
	return m
}

func newDisk(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 8<<20); err != nil {
		t.Fatal(err)
	}
	return path
}

func (m *machine) open() {
	m.t.Helper()
	var device transport.TPM = m.device
	if m.wrap != nil {
		device = m.wrap(device)
	}
	tpm, err := attester.Open(device)
	if err != nil {
		m.t.Fatal(err)
	}
	m.tpm, m.volume.Device = tpm, tpm
	// Some image booted.
	if err := tpm.Extend(4, attest.Sum([]byte(m.image))); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) reboot() {
	m.device.PowerOff()
	m.device.PowerOn()
	m.open()
}

func (m *machine) newClaim() *ownership.Claim {
	m.t.Helper()
	var err error
	if _, m.owner, err = ed25519.GenerateKey(rand.Reader); err != nil {
		m.t.Fatal(err)
	}
	if m.recovery, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
		m.t.Fatal(err)
	}
	c, err := ownership.Sign(m.owner, ownership.Body{
		AKName: m.tpm.AKName(), Update: m.update, Recovery: [32]byte(m.recovery.PublicKey().Bytes()),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

// commit claims the machine as the agent does, up to the volume.
func (m *machine) commit() error {
	m.t.Helper()
	if err := Prepare(m.tpm); err != nil {
		return err
	}
	return Commit(m.tpm, m.newClaim())
}

// claimed is a machine with an owner and a volume, and the volume's key.
func claimed(t *testing.T) (*machine, []byte) {
	t.Helper()
	m := newMachine(t)
	if err := m.commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.openVolume(); err != nil {
		t.Fatal(err)
	}
	return m, m.mapper.key
}

func (m *machine) openVolume() (string, error) {
	m.t.Helper()
	s, err := Load(m.tpm)
	if err != nil {
		m.t.Fatal(err)
	}
	return m.volume.Open(m.t.Context(), s)
}

// header is what stands on the disk.
func (m *machine) header() header {
	m.t.Helper()
	disk, err := os.Open(m.volume.Disk)
	if err != nil {
		m.t.Fatal(err)
	}
	defer disk.Close()
	h, err := readHeader(disk)
	if err != nil {
		m.t.Fatal(err)
	}
	return h
}

func (m *machine) terms(h header) terms {
	m.t.Helper()
	t, err := m.volume.terms(h)
	if err != nil {
		m.t.Fatal(err)
	}
	return t
}

func (m *machine) refused(want error) {
	m.t.Helper()
	before := m.formats
	m.mapper.key = nil
	if _, err := m.openVolume(); !errors.Is(err, want) {
		m.t.Errorf("error %v, want %v", err, want)
	}
	if m.mapper.key != nil {
		m.t.Error("a disk was mapped")
	}
	if m.formats != before {
		m.t.Error("a disk was formatted")
	}
}

func TestVolumeOutlivesReboot(t *testing.T) {
	m, key := claimed(t)
	m.reboot()
	if _, err := m.openVolume(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.mapper.key, key) || m.formats != 1 {
		t.Errorf("same key %v, formatted %d times", bytes.Equal(m.mapper.key, key), m.formats)
	}
}

// A claim is for good: design promise 10.
func TestSecondClaimIsRefused(t *testing.T) {
	m, _ := claimed(t)
	first, err := Load(m.tpm)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Commit(m.tpm, m.newClaim()); !errors.Is(err, ErrClaimed) {
			t.Errorf("second claim: %v", err)
		}
		m.reboot()
	}
	again, err := Load(m.tpm)
	if err != nil || again.Claim.Digest() != first.Claim.Digest() {
		t.Errorf("the claim changed: %v", err)
	}
}

// Whatever runs on the machine cannot write the claim's index again, only
// destroy it, and with it the way to the data.
func TestClaimIndexIsLocked(t *testing.T) {
	m := newMachine(t)
	if err := m.commit(); err != nil {
		t.Fatal(err)
	}
	m.wantLocked()
	m.reboot()
	m.wantLocked()
}

// wantLocked tries to write the claim's index again, as the owner of the TPM.
func (m *machine) wantLocked() {
	m.t.Helper()
	err := m.tpm.Do(func(device transport.TPM) error {
		return rewriteNV(device, indexClaim, m.volume.OwnerAuth(), make([]byte, 32))
	})
	if !errors.Is(err, tpm2.TPMRCNVLocked) {
		m.t.Errorf("writing the claim again: %v", err)
	}
}

// A changed image cannot open the data, nor can this one once its claim
// register is extended: design promise 11.
func TestKeyStaysSealed(t *testing.T) {
	m, _ := claimed(t)
	// Registers 0 and 1 move where the release does not fix the firmware.
	m.reboot()
	for _, register := range []uint8{0, 1} {
		if err := m.tpm.Extend(register, attest.Digest{1}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.openVolume(); err != nil {
		t.Errorf("another firmware of a cloud's: %v", err)
	}
	for _, register := range []uint8{2, 4, 7, 11, 12, 13, attest.RegisterClaim} {
		m.reboot()
		if err := m.tpm.Extend(register, attest.Digest{1}); err != nil {
			t.Fatal(err)
		}
		m.refused(ErrSealed)
	}
	m.reboot()
	m.volume.Epoch = 2
	m.refused(ErrSealed)
	m.volume.Epoch = 3
	if _, err := m.openVolume(); err != nil {
		t.Errorf("the right image: %v", err)
	}
}

// A claim that was replaced while the TPM was still open, as in a claim that was
// cut short, does not open what was sealed under the first.
func TestKeyNeedsTheClaim(t *testing.T) {
	m := newMachine(t)
	if err := m.commit(); err != nil {
		t.Fatal(err)
	}
	s, err := Load(m.tpm)
	if err != nil {
		t.Fatal(err)
	}
	h, err := m.volume.newHeader(s.Claim, VolumeID{1}, make([]byte, keyBytes), authorizations{})
	if err != nil {
		t.Fatal(err)
	}
	m.replaceHeader(h)
	m.reboot()
	if err := m.tpm.Do(func(device transport.TPM) error { return undefineNV(device, indexClaim) }); err != nil {
		t.Fatal(err)
	}
	other := m.newClaim()
	if err := Commit(m.tpm, other); err != nil {
		t.Fatal(err)
	}
	for _, bound := range []attest.Digest{h.Claim, other.Digest()} {
		under := m.terms(h)
		under.claim = bound
		if _, err := openKey(m.tpm, h.Sealed, under); !errors.Is(err, ErrSealed) {
			t.Errorf("a replaced claim opened the data: %v", err)
		}
	}
	m.refused(ErrForeign)
}

// bus keeps all that goes to the TPM and comes from it.
type bus struct {
	transport.TPM
	seen []byte
}

func (b *bus) Send(command []byte) ([]byte, error) {
	response, err := b.TPM.Send(command)
	b.seen = append(append(b.seen, command...), response...)
	return response, err
}

// Whoever listens to the TPM's bus learns no data key and no authorization, at
// the claim, at a boot or later.
func TestSecretsCrossTheBusEncrypted(t *testing.T) {
	m := newMachine(t)
	b := &bus{}
	m.wrap = func(device transport.TPM) transport.TPM {
		b.TPM = device
		return b
	}
	m.reboot()
	if err := m.commit(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := m.openVolume(); err != nil {
			t.Fatal(err)
		}
		m.reboot()
	}
	m.volume.Epoch++
	if err := m.volume.Settle(); err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string][]byte{"data key": m.mapper.key, "owner's": m.volume.auths.Owner, "lockout's": m.volume.auths.Lockout} {
		if len(secret) < 16 || bytes.Contains(b.seen, secret[:16]) {
			t.Errorf("the %s crossed the bus in the clear", name)
		}
	}
}

// A crash before the lock leaves an index that the next boot locks.
func TestInterruptedCommit(t *testing.T) {
	m := newMachine(t)
	c := m.newClaim()
	digest := c.Digest()
	err := m.tpm.Do(func(device transport.TPM) error {
		return errors.Join(putNV(device, indexDocument, rewritable, c.Encode()),
			putNV(device, indexClaim, writeOnce, digest[:]))
	})
	if err != nil {
		t.Fatal(err)
	}
	m.reboot()
	if _, err := m.openVolume(); err != nil {
		t.Fatal(err)
	}
	m.wantLocked()
	m.reboot()
	if _, err := m.openVolume(); err != nil {
		t.Error(err)
	}
}

// A policy that fails leaves no session behind in a TPM that holds three.
func TestRefusedKeyLeavesNoSession(t *testing.T) {
	m, key := claimed(t)
	m.reboot()
	h := m.header()
	for range 5 {
		under := m.terms(h)
		under.claim = attest.Digest{1}
		if _, err := openKey(m.tpm, h.Sealed, under); !errors.Is(err, ErrSealed) {
			t.Fatalf("another claim: %v", err)
		}
	}
	got, err := openKey(m.tpm, h.Sealed, m.terms(h))
	if err != nil || !bytes.Equal(got, key) {
		t.Errorf("afterwards: %v", err)
	}
}

// What the header has of the TPM's authorizations and of the data key is under
// the data key and the owner's recovery key, and counts for this volume alone.
func TestHeaderHoldsWhatTheOwnerNeeds(t *testing.T) {
	m, key := claimed(t)
	h, auths := m.header(), m.volume.auths
	r, err := ownership.OpenRecovery(m.recovery, h.context(), h.Recovery)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.VolumeKey, key) || !bytes.Equal(r.OwnerAuth, auths.Owner) || !bytes.Equal(r.LockoutAuth, auths.Lockout) {
		t.Error("the owner recovers something else")
	}
	if bytes.Equal(auths.Owner, auths.Lockout) {
		t.Error("one authorization opens both hierarchies")
	}
	other := h
	other.Volume[0]++
	if _, err := decryptAuthorizations(key, other); !errors.Is(err, ErrForeign) {
		t.Errorf("for another volume: %v", err)
	}
	if _, err := decryptAuthorizations(make([]byte, keyBytes), h); !errors.Is(err, ErrForeign) {
		t.Errorf("under another key: %v", err)
	}
	if got, err := decryptAuthorizations(key, h); err != nil || !reflect.DeepEqual(got, auths) {
		t.Errorf("%v, %v", got, err)
	}
}

// Nothing but the claim's own volume is opened, and nothing is ever formatted
// a second time: design promise 13.
func TestSwappedDisk(t *testing.T) {
	m, _ := claimed(t)
	own := m.volume.Disk
	m.volume.Disk = newDisk(t)
	m.refused(ErrForeign)

	other, _ := claimed(t)
	m.volume.Disk = other.volume.Disk
	m.refused(ErrForeign)

	m.volume.Disk = own
	if _, err := m.openVolume(); err != nil {
		t.Errorf("the own disk: %v", err)
	}
}

func TestClaimNeedsABlankDisk(t *testing.T) {
	m := newMachine(t)
	if err := m.volume.CheckBlank(); err != nil {
		t.Errorf("a blank disk: %v", err)
	}
	f, err := os.OpenFile(m.volume.Disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{1}, blankProbe-1); err != nil {
		t.Fatal(err)
	}
	if err := m.volume.CheckBlank(); !errors.Is(err, ErrNotBlank) {
		t.Errorf("a disk with something on it: %v", err)
	}
	if err := Commit(m.tpm, m.newClaim()); err != nil {
		t.Fatal(err)
	}
	m.refused(ErrNotBlank)
}

// A crash between the claim and the finished volume is made good.
func TestInterruptedMovingIn(t *testing.T) {
	m := newMachine(t)
	if err := m.commit(); err != nil {
		t.Fatal(err)
	}
	m.failFormat = errors.New("power lost")
	if _, err := m.openVolume(); !errors.Is(err, m.failFormat) {
		t.Fatal(err)
	}
	m.failFormat = nil
	m.reboot()
	if _, err := m.openVolume(); err != nil {
		t.Errorf("the next boot: %v", err)
	}
	key := m.mapper.key
	m.reboot()
	if _, err := m.openVolume(); err != nil || !bytes.Equal(key, m.mapper.key) {
		t.Errorf("the boot after it: %v", err)
	}
}

func FuzzHeader(f *testing.F) {
	good, err := header{Version: headerVersion, Volume: VolumeID{1}, Sealed: Sealed{Public: []byte{2}, Private: []byte{3}, Creation: []byte{4}, Ticket: []byte{5}}}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:20])
	f.Add(headerMagic[:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHeader(b)
		if err != nil {
			if !errors.Is(err, errNoHeader) && !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("error %v of no known kind", err)
			}
			return
		}
		again, err := h.encode()
		if err != nil {
			t.Skip("a header that is longer than what we write")
		}
		if h2, err := decodeHeader(again); err != nil || !reflect.DeepEqual(h, h2) {
			t.Errorf("a header does not survive its own encoding: %v", err)
		}
	})
}

func (m *machine) newOwner() ed25519.PrivateKey {
	m.t.Helper()
	_, owner, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	return owner
}
