package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
)

// withSealed runs f with the volume's wrapped key loaded.
func (m *machine) withSealed(h header, f func(transport.TPM, tpm2.NamedHandle) error) {
	m.t.Helper()
	err := m.tpm.Do(func(device transport.TPM) error {
		srk, err := loadSRK(device)
		if err != nil {
			return err
		}
		object, err := loadSealed(device, srk, h.Sealed)
		if err != nil {
			return err
		}
		defer flush(device, object.Handle)
		return f(device, object)
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// Nothing but its policy opens the data key: it has an authorization, the empty
// one, and that is for nothing.
func TestKeyOpensByPolicyAlone(t *testing.T) {
	m, _ := claimed(t)
	h := m.header()
	m.reboot()
	m.withSealed(h, func(device transport.TPM, object tpm2.NamedHandle) error {
		_, err := tpm2.Unseal{
			ItemHandle: tpm2.AuthHandle{Handle: object.Handle, Name: object.Name, Auth: tpm2.PasswordAuth(nil)},
		}.Execute(device)
		if !errors.Is(err, tpm2.TPMRCAuthUnavailable) {
			t.Errorf("unsealing by password: %v", err)
		}
		rsp, err := tpm2.ReadPublic{ObjectHandle: object.Handle}.Execute(device)
		if err != nil {
			return err
		}
		public, err := rsp.OutPublic.Contents()
		if err != nil {
			return err
		}
		want := tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: true}
		if public.ObjectAttributes != want {
			t.Errorf("attributes %+v, want %+v", public.ObjectAttributes, want)
		}
		return nil
	})
}

// An image opens what is sealed to its epoch while the floor is at it or below,
// as it is before an update has proved itself.
func TestFloorBelowTheImage(t *testing.T) {
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
	m.reboot()
	for epoch, want := range map[uint64]error{0: nil, 2: nil, 3: nil, 4: ErrSealed, 1 << 32: ErrSealed} {
		err := m.tpm.Do(func(device transport.TPM) error {
			return putNV(device, indexEpoch, rewritable, floor{epoch: epoch}.encode())
		})
		if err != nil {
			t.Fatal(err)
		}
		// Another index has the same name where its attributes are the same.
		if _, err := openKey(m.tpm, h.Sealed, m.terms(h)); !errors.Is(err, want) {
			t.Errorf("floor %d: %v, want %v", epoch, err, want)
		}
	}
}

// The floor that another image lowered while a claim was cut short is this
// image's again once the TPM is closed.
func TestFloorLoweredInTheMidstOfAClaim(t *testing.T) {
	m := newMachine(t)
	if err := m.commit(); err != nil {
		t.Fatal(err)
	}
	m.failOwn()
	if err := putNV(m.bootAnother(), indexEpoch, rewritable, floor{}.encode()); err != nil {
		t.Fatal(err)
	}
	m.reboot()
	m.wantMended()
	m.wantEpoch(3)
}

// Another image that guesses until the TPM locks itself keeps nobody from their
// data: what a boot needs is exempt.
func TestLockedOutTPM(t *testing.T) {
	m, key := claimed(t)
	device := m.bootAnother()
	guessed := tpm2.ECCSRKTemplate
	guessed.ObjectAttributes.NoDA = false
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(guessed),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: []byte("mine")}}},
	}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	guess := func() error {
		_, err := tpm2.Create{
			ParentHandle: tpm2.AuthHandle{Handle: made.ObjectHandle, Name: made.Name, Auth: tpm2.PasswordAuth([]byte("wrong"))},
			InPublic:     tpm2.New2B(tpm2.ECCSRKTemplate),
		}.Execute(device)
		return err
	}
	for tries := 0; !errors.Is(guess(), tpm2.TPMRCLockout); tries++ {
		if tries == 100 {
			t.Fatal("the tpm does not lock itself")
		}
	}
	m.reboot()
	if _, err := m.openVolume(); err != nil || !bytes.Equal(m.mapper.key, key) {
		t.Errorf("a tpm that is locked: %v", err)
	}
}

// A lockout authorization that another image set between the owner's and ours
// is found out.
func TestLockoutSetInTheMidstOfClosing(t *testing.T) {
	m := newMachine(t)
	if err := m.commit(); err != nil {
		t.Fatal(err)
	}
	// The owner's authorization is the first that is set.
	m.volume.Device = lossy{&lostAfter{TPM: m.device.TPM, code: tpm2.TPMCCHierarchyChanegAuth}}
	if _, err := m.openVolume(); err == nil {
		t.Fatal("the volume opened with an open tpm")
	}
	if err := changeAuth(m.bootAnother(), tpm2.TPMRHLockout); err != nil {
		t.Fatal(err)
	}
	m.reboot()
	m.refused(ErrOwned)
}

// lostAfter is a TPM that is lost after one command of a code.
type lostAfter struct {
	transport.TPM
	code tpm2.TPMCC
	lost bool
}

func (l *lostAfter) Send(command []byte) ([]byte, error) {
	if l.lost {
		return nil, errors.New("the power is gone")
	}
	l.lost = tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])) == l.code
	return l.TPM.Send(command)
}

// A header of a claim's first try, which was cut short, is not its volume's,
// though the same image sealed its key for the same claim.
func TestHeaderOfAnInterruptedClaim(t *testing.T) {
	m := newMachine(t)
	if err := m.commit(); err != nil {
		t.Fatal(err)
	}
	m.failFormat = errors.New("power lost")
	if _, err := m.openVolume(); !errors.Is(err, m.failFormat) {
		t.Fatal(err)
	}
	if m.mapper.key != nil {
		t.Error("a disk that has no file system stays mapped")
	}
	m.failFormat = nil
	first := m.header()
	m.reboot()
	if _, err := m.openVolume(); err != nil {
		t.Fatal(err)
	}
	m.replaceHeader(first)
	m.reboot()
	m.refused(ErrForeign)
}

// A claim that was cut short takes no disk that is another's.
func TestClaimCutShortMeetsAnothersDisk(t *testing.T) {
	other, _ := claimed(t)
	m := newMachine(t)
	if err := m.commit(); err != nil {
		t.Fatal(err)
	}
	m.volume.Disk = other.volume.Disk
	m.refused(ErrForeign)
}

// A volume whose TPM cannot be closed or written is not left mapped.
func TestFailedMovingInIsNotMapped(t *testing.T) {
	for name, code := range map[string]tpm2.TPMCC{"record": tpm2.TPMCCNVWriteLock, "closing": ccSetPrimaryPolicy} {
		m := newMachine(t)
		if err := m.commit(); err != nil {
			t.Fatal(err)
		}
		m.volume.Device = lossy{&failing{TPM: m.device.TPM, code: code, times: 1}}
		if _, err := m.openVolume(); err == nil || m.mapper.key != nil || m.formats != 1 {
			t.Errorf("%s: error %v, mapped %t, formatted %d times", name, err, m.mapper.key != nil, m.formats)
		}
	}
}

// A volume is on record before the TPM is closed: a claim that is cut short
// there has its volume, and formats none again.
func TestVolumeIsOnRecordBeforeTheTPMIsClosed(t *testing.T) {
	m := newMachine(t)
	if err := m.commit(); err != nil {
		t.Fatal(err)
	}
	m.failOwn()
	m.reboot()
	s, err := Load(m.tpm)
	if err != nil || s.Volume != m.header().Volume {
		t.Errorf("volume %s, %v", s.Volume, err)
	}
	m.wantMended()
	if m.formats != 1 {
		t.Errorf("formatted %d times", m.formats)
	}
}

// Where file systems and partition tables begin behind the header's part a disk
// is no longer blank.
func TestBlankReachesBehindTheHeader(t *testing.T) {
	m := newMachine(t)
	f, err := os.OpenFile(m.volume.Disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// ext4 has its superblock at byte 1024, btrfs at 64 KiB.
	if _, err := f.WriteAt([]byte{1}, payloadOffset+64<<10); err != nil {
		t.Fatal(err)
	}
	if err := m.volume.CheckBlank(); !errors.Is(err, ErrNotBlank) {
		t.Errorf("error %v, want %v", err, ErrNotBlank)
	}
}

// The kinds of volume before this one are not read.
func TestHeaderOfAnotherVersion(t *testing.T) {
	for _, version := range []uint64{0, 2, 3, 4, 5, 7} {
		b, err := header{Version: version}.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeHeader(b); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("version %d: %v", version, err)
		}
	}
}

// A header says its own length, which never leads past the copy's end.
func TestLengthOfAHeader(t *testing.T) {
	for _, n := range []uint32{0, headerBytes - 12 - 32, headerBytes - 12 - 31, headerBytes - 12, headerBytes, 1 << 31, 1<<32 - 1} {
		b := binary.BigEndian.AppendUint32(bytes.Clone(headerMagic[:]), n)
		b = append(b, make([]byte, headerBytes-len(b))...)
		if _, err := decodeHeader(b); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("length %d: %v", n, err)
		}
	}
}

// A header that a power cut interrupted says nothing of a volume, and a damaged
// one that is not the first says so.
func TestLeftOfATornHeader(t *testing.T) {
	m := newMachine(t)
	b, err := header{Version: headerVersion, Volume: VolumeID{1}}.encode()
	if err != nil {
		t.Fatal(err)
	}
	m.write(0, b[:30])
	if left, err := m.volume.Left(); left != nil || err != nil {
		t.Errorf("%+v, %v", left, err)
	}
	m.write(0, append(bytes.Clone(headerMagic[:]), 0xff, 0xff, 0xff, 0xff))
	if left, err := m.volume.Left(); left != nil || !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("a length of no header: %+v, %v", left, err)
	}
}

// A power cut while one copy of the header is written leaves the other.
func TestHeaderIsWrittenTwice(t *testing.T) {
	disk, err := os.OpenFile(newDisk(t), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if _, err := readHeader(disk); !errors.Is(err, errNoHeader) {
		t.Fatal(err)
	}
	for n := range byte(5) {
		if err := writeHeader(disk, header{Version: headerVersion, Volume: VolumeID{n}}); err != nil {
			t.Fatal(err)
		}
		h, err := readHeader(disk)
		if err != nil || h.Volume != (VolumeID{n}) || h.Sequence != uint64(n) {
			t.Fatalf("%+v, %v, want the header number %d", h, err, n)
		}
		at := int64(n%2) * secondHeader
		whole := make([]byte, headerBytes)
		if _, err := disk.ReadAt(whole, at); err != nil {
			t.Fatal(err)
		}
		// The latest is torn: what was before holds.
		if _, err := disk.WriteAt(make([]byte, 40), at+20); err != nil {
			t.Fatal(err)
		}
		h, err = readHeader(disk)
		if first := n == 0; first != errors.Is(err, errTorn) || !first && h.Volume != (VolumeID{n - 1}) {
			t.Fatalf("%+v, %v, want the header before number %d", h, err, n)
		}
		if _, err := disk.WriteAt(whole, at); err != nil {
			t.Fatal(err)
		}
	}
}

// A claim whose first header was not written whole makes its volume all the same,
// and one with anything behind such a header does not.
func TestTornHeaderOfAClaim(t *testing.T) {
	for _, behind := range []bool{false, true} {
		m := newMachine(t)
		if err := m.commit(); err != nil {
			t.Fatal(err)
		}
		b, err := header{Version: headerVersion, Volume: VolumeID{1}}.encode()
		if err != nil {
			t.Fatal(err)
		}
		m.write(0, b[:30])
		if behind {
			m.write(payloadOffset, []byte{1})
			m.refused(ErrNotBlank)
			continue
		}
		if _, err := m.openVolume(); err != nil {
			t.Error(err)
		}
	}
}

// write puts something on the disk.
func (m *machine) write(at int64, b []byte) {
	m.t.Helper()
	disk, err := os.OpenFile(m.volume.Disk, os.O_RDWR, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	defer disk.Close()
	if _, err := disk.WriteAt(b, at); err != nil {
		m.t.Fatal(err)
	}
}

// What a volume is bound by keeps its meaning: a digest that changed would
// leave every volume that there is closed.
func TestHeaderDigestIsKept(t *testing.T) {
	got, err := header{Version: headerVersion, Volume: VolumeID{1}, Claim: attest.Digest{2}, Authorizations: []byte{3}, Recovery: []byte{4}}.digest()
	const want = "4e6257f9d1cf753c95aca3318504c18946f7715a36227520bcee251428287280"
	if err != nil || got.String() != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}

// The data key is the disk's and sees no other use.
func TestAuthorizationsHaveAKeyOfTheirOwn(t *testing.T) {
	m, key := claimed(t)
	h := m.header()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := aead.Open(nil, nil, h.Authorizations, h.context()); err == nil {
		t.Error("the data key itself decrypts them")
	}
}

// A session of the owner's is gone once it was used, in a TPM that holds three.
func TestRaisingLeavesNoSession(t *testing.T) {
	m, _ := claimed(t)
	for range 5 {
		m.volume.Epoch++
		if err := m.volume.Settle(); err != nil {
			t.Fatal(err)
		}
	}
	m.wantEpoch(8)
}
