package seal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
)

// forge seals a key of the forger's own under the owner's policy, as any image
// can that is booted on the machine: every term of the policy is public. At its
// making the TPM notes the registers that are sealed to, or those given.
func (m *machine) forge(h header, registers []byte, noted ...uint8) Sealed {
	m.t.Helper()
	under := m.terms(h)
	var sealed Sealed
	err := m.tpm.Do(func(device transport.TPM) error {
		zero := attest.Digest{}
		digest := attest.Sum(append(registers, zero[:]...))
		session, end, err := tpm2.PolicySession(device, tpm2.TPMAlgSHA256, 16, tpm2.Trial())
		if err != nil {
			return err
		}
		defer end() //nolint:errcheck // the test is over where it fails
		if err := assertPolicy(device, session.Handle(), tpm2.TPM2BDigest{Buffer: digest[:]}, under); err != nil {
			return err
		}
		policy, err := tpm2.PolicyGetDigest{PolicySession: session.Handle()}.Execute(device)
		if err != nil {
			return err
		}
		if noted != nil {
			under.registers = noted
		}
		sealed, err = sealKey(device, make([]byte, keyBytes), policy.PolicyDigest, under)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return sealed
}

// registers are the values that this boot's image has.
func (m *machine) registers() (values []byte) {
	m.t.Helper()
	err := m.tpm.Do(func(device transport.TPM) (err error) {
		values, err = readRegisters(device, attest.SealedRegisters(m.volume.Firmware))
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return values
}

func (m *machine) replaceHeader(h header) {
	m.t.Helper()
	disk, err := os.OpenFile(m.volume.Disk, os.O_RDWR, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	defer disk.Close()
	if err := writeHeader(disk, h); err != nil {
		m.t.Fatal(err)
	}
}

// Another image, booted once after the claim, chooses the data key: it seals
// one that it knows to the owner's policy and leaves claim and volume id as
// they are. The policy opens it; its making gives it away.
func TestKeySealedByAnotherImage(t *testing.T) {
	m, _ := claimed(t)
	good := m.header()
	m.reboot()
	known := m.registers()

	m.device.PowerOff()
	m.device.PowerOn()
	tpm, err := attester.Open(m.device)
	if err != nil {
		t.Fatal(err)
	}
	m.tpm, m.volume.Device = tpm, tpm
	if err := tpm.Extend(4, attest.Sum([]byte("the forger's image"))); err != nil {
		t.Fatal(err)
	}
	forged := good
	forged.Sealed = m.forge(good, known)
	m.replaceHeader(forged)

	m.reboot()
	m.refused(ErrMaker)

	// Nor does what the TPM said of the right key vouch for the wrong one.
	for name, mix := range map[string]func(*Sealed){
		"creation and ticket": func(s *Sealed) { s.Creation, s.Ticket = good.Sealed.Creation, good.Sealed.Ticket },
		"ticket":              func(s *Sealed) { s.Ticket = good.Sealed.Ticket },
		"creation":            func(s *Sealed) { s.Creation = good.Sealed.Creation },
		"no ticket":           func(s *Sealed) { s.Ticket = nil },
		"no creation":         func(s *Sealed) { s.Creation = nil },
	} {
		t.Run(name, func(*testing.T) {
			h := forged
			mix(&h.Sealed)
			m.replaceHeader(h)
			m.refused(ErrMaker)
		})
	}
	m.replaceHeader(good)
	if _, err := m.openVolume(); err != nil {
		t.Errorf("the owner's own key: %v", err)
	}
}

// This image's own key counts for the header it was made for alone.
func TestKeyMadeForAnotherHeader(t *testing.T) {
	m, _ := claimed(t)
	good := m.header()
	m.reboot()
	other := good
	other.Volume[0]++
	forged := good
	forged.Sealed = m.forge(other, m.registers())
	m.replaceHeader(forged)
	m.refused(ErrMaker)
	forged.Sealed = m.forge(good, m.registers())
	m.replaceHeader(forged)
	// Its maker is this image, and it is for this header; but what stands there
	// is not under it.
	m.refused(ErrForeign)
}

// A key counts where the very registers that are sealed to were noted at its
// making, and not others that hold the same values: anybody can set register 16.
func TestOtherRegistersNotedAtItsMaking(t *testing.T) {
	m, _ := claimed(t)
	h := m.header()
	m.reboot()
	h.Sealed = m.forge(h, m.registers(), 2, 4, 7, 11, 12, 16)
	m.replaceHeader(h)
	m.refused(ErrMaker)
}

// A key counts where it was made under this machine's storage key.
func TestKeyMadeUnderAnotherStorageKey(t *testing.T) {
	m, _ := claimed(t)
	h := m.header()
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
		if err := checkMaker(device, srk, object, h.Sealed, m.terms(h)); err != nil {
			return err
		}
		srk.Name.Buffer[2]++
		if err := checkMaker(device, srk, object, h.Sealed, m.terms(h)); !errors.Is(err, ErrMaker) {
			t.Errorf("error %v, want %v", err, ErrMaker)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What the TPM certifies covers all of the header but the key itself.
func TestHeaderDigestCoversEachField(t *testing.T) {
	digest := func(h header) attest.Digest {
		d, err := h.digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	good := header{Version: headerVersion, Volume: VolumeID{1}, Claim: attest.Digest{2}}
	for field, change := range map[string]func(*header){
		"version":  func(h *header) { h.Version++ },
		"volume":   func(h *header) { h.Volume[0]++ },
		"claim":    func(h *header) { h.Claim[0]++ },
		"auths":    func(h *header) { h.Authorizations = []byte{1} },
		"wrap":     func(h *header) { h.Recovery = []byte{1} },
		"handover": func(h *header) { h.Handover = new(handover) },
		"approval": func(h *header) { h.Handover = &handover{Approval: []byte{1}} },
		"updates":  func(h *header) { h.Updates++ },
	} {
		other := good
		change(&other)
		if digest(other) == digest(good) {
			t.Errorf("another %s has the same digest", field)
		}
	}
	sealed := good
	sealed.Sealed.Private = []byte{1}
	if digest(sealed) != digest(good) {
		t.Error("the wrapped key is part of what is certified of its making")
	}
}

// A header that names another claim is not this claim's, whatever else it says.
func TestHeaderOfAnotherClaim(t *testing.T) {
	m, _ := claimed(t)
	h := m.header()
	h.Claim[0]++
	m.replaceHeader(h)
	m.reboot()
	m.refused(ErrForeign)
}

// Where the release fixes the firmware, no other opens the data.
func TestKeyIsSealedToFirmware(t *testing.T) {
	m := newMachine(t)
	m.volume.Firmware = true
	if err := m.commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.openVolume(); err != nil {
		t.Fatal(err)
	}
	for _, register := range []uint8{0, 1} {
		m.reboot()
		if err := m.tpm.Extend(register, attest.Digest{1}); err != nil {
			t.Fatal(err)
		}
		m.refused(ErrSealed)
	}
	m.reboot()
	if _, err := m.openVolume(); err != nil {
		t.Errorf("the right firmware: %v", err)
	}
}

// plant defines an index as another image could before the claim, and writes
// to it where content is given.
func (m *machine) plant(index tpm2.TPMHandle, attributes tpm2.TPMANV, auth string, content []byte) {
	m.t.Helper()
	err := m.tpm.Do(func(device transport.TPM) error {
		_, err := tpm2.NVDefineSpace{
			AuthHandle: owner(), Auth: tpm2.TPM2BAuth{Buffer: []byte(auth)},
			PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
				NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, Attributes: attributes, DataSize: 32,
			}),
		}.Execute(device)
		if err != nil || content == nil {
			return err
		}
		named, err := nameNV(device, index)
		if err != nil {
			return err
		}
		_, err = tpm2.NVWrite{AuthHandle: owner(), NVIndex: named, Data: tpm2.TPM2BMaxNVBuffer{Buffer: content}}.Execute(device)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// An index that another image defined before the claim is not written in
// place: its attributes, authorization and lock would be that image's.
func TestIndexPlantedBeforeTheClaim(t *testing.T) {
	for name, c := range map[string]struct {
		attributes tpm2.TPMANV
		auth       string
	}{
		"not lockable":  {rewritable, ""},
		"lock of a day": {tpm2.TPMANV{OwnerWrite: true, AuthRead: true, OwnerRead: true, WriteSTClear: true, NoDA: true}, ""},
		"writable by its own authorization": {
			tpm2.TPMANV{OwnerWrite: true, AuthWrite: true, AuthRead: true, OwnerRead: true, WriteDefine: true, NoDA: true}, "forger",
		},
		"right but for its authorization": {writeOnce, "forger"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.plant(indexClaim, c.attributes, c.auth, nil)
			m.plant(indexVolume, rewritable, "", bytes.Repeat([]byte{1}, 32))
			if err := m.commit(); err != nil {
				t.Fatal(err)
			}
			m.wantLocked()
			if _, err := m.openVolume(); err != nil {
				t.Fatal(err)
			}
			m.reboot()
			m.wantLocked()
			if _, err := m.openVolume(); err != nil {
				t.Errorf("after a reboot: %v", err)
			}
		})
	}
}

// A claim in an index that could be written again is none.
func TestClaimInAForeignIndex(t *testing.T) {
	m := newMachine(t)
	m.plant(indexClaim, rewritable, "", make([]byte, 32))
	if _, err := Load(m.tpm); !errors.Is(err, ErrForeignIndex) {
		t.Errorf("error %v, want %v", err, ErrForeignIndex)
	}
}

// Whatever could give another the say over the claim's index makes it foreign.
func TestIsAs(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*tpm2.TPMSNVPublic)
		want   bool
	}{
		"as defined":     {func(*tpm2.TPMSNVPublic) {}, true},
		"written":        {func(p *tpm2.TPMSNVPublic) { p.Attributes.Written = true }, true},
		"locked":         {func(p *tpm2.TPMSNVPublic) { p.Attributes.Written, p.Attributes.WriteLocked = true, true }, true},
		"not lockable":   {func(p *tpm2.TPMSNVPublic) { p.Attributes.WriteDefine = false }, false},
		"policy written": {func(p *tpm2.TPMSNVPublic) { p.Attributes.PolicyWrite = true }, false},
		"of a policy":    {func(p *tpm2.TPMSNVPublic) { p.AuthPolicy.Buffer = make([]byte, 32) }, false},
		"another digest": {func(p *tpm2.TPMSNVPublic) { p.NameAlg = tpm2.TPMAlgSHA1 }, false},
		"a counter":      {func(p *tpm2.TPMSNVPublic) { p.Attributes.NT = tpm2.TPMNTCounter }, false},
	} {
		public := tpm2.TPMSNVPublic{NVIndex: indexClaim, NameAlg: tpm2.TPMAlgSHA256, Attributes: writeOnce, DataSize: 32}
		c.change(&public)
		if got := isAs(&public, writeOnce); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// The document is what the locked digest says, or the machine serves nobody.
func TestDocumentOfAnotherClaim(t *testing.T) {
	m, _ := claimed(t)
	other := m.newClaim()
	err := m.tpm.Do(func(device transport.TPM) error {
		return rewriteNV(device, indexDocument, m.volume.OwnerAuth(), other.Encode())
	})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := Load(m.tpm); err == nil {
		t.Errorf("a claim of %x was read", s.Claim.Body.Owner)
	}
}

// failing fails commands of one code, as a TPM that is busy does.
type failing struct {
	transport.TPM
	code  tpm2.TPMCC
	times int
}

func (f *failing) Send(command []byte) ([]byte, error) {
	if f.times > 0 && len(command) > 10 && tpm2.TPMCC(command[6])<<24|tpm2.TPMCC(command[7])<<16|tpm2.TPMCC(command[8])<<8|tpm2.TPMCC(command[9]) == f.code {
		f.times--
		return nil, errors.New("the tpm does not answer")
	}
	return f.TPM.Send(command)
}

// A digest that cannot be locked is no claim, and the next try in the same boot
// is as good as the first.
func TestLockThatFails(t *testing.T) {
	m := newMachine(t)
	m.device.PowerOff()
	m.device.PowerOn()
	device := &failing{TPM: m.device, code: tpm2.TPMCCNVWriteLock, times: 1}
	tpm, err := attester.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	m.tpm, m.volume.Device = tpm, tpm
	if err := Commit(tpm, m.newClaim()); err == nil {
		t.Fatal("a claim that is not locked was committed")
	}
	if s, err := Load(tpm); err != nil || s.Claim != nil {
		t.Errorf("it left a claim behind: %v, error %v", s.Claim, err)
	}
	if err := Commit(tpm, m.newClaim()); err != nil {
		t.Errorf("the next try: %v", err)
	}
	m.wantLocked()
}

// deaf loses the answer to the write of one index, which the TPM carries out.
type deaf struct {
	transport.TPM
	index tpm2.TPMHandle
}

func (d *deaf) Send(command []byte) ([]byte, error) {
	answer, err := d.TPM.Send(command)
	be := binary.BigEndian
	if tpm2.TPMCC(be.Uint32(command[6:])) == tpm2.TPMCCNVWrite && tpm2.TPMHandle(be.Uint32(command[14:])) == d.index {
		return nil, errors.New("the tpm does not answer")
	}
	return answer, err
}

// A claim that was written and is not known to be is taken back: whoever made
// it hears that it failed.
func TestWriteWhoseAnswerIsLost(t *testing.T) {
	m := newMachine(t)
	if err := Prepare(m.tpm); err != nil {
		t.Fatal(err)
	}
	if err := Commit(lossy{&deaf{m.device.TPM, indexClaim}}, m.newClaim()); err == nil {
		t.Fatal("a claim that is not known to be written was committed")
	}
	if s, err := Load(m.tpm); err != nil || s.Claim != nil {
		t.Errorf("it left a claim behind: %v, error %v", s.Claim, err)
	}
}
