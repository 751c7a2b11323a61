package seal

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// wantClosed reads what the TPM says of its authorizations.
func (m *machine) wantClosed() {
	m.t.Helper()
	err := m.tpm.Do(func(device transport.TPM) error {
		permanent, err := attester.ReadPermanent(device)
		if err == nil && (!permanent.OwnerAuthSet() || !permanent.LockoutAuthSet() || !permanent.ClearDisabled()) {
			m.t.Errorf("the tpm is open: %#x", uint32(permanent))
		}
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// boot starts another image on the machine: other registers, and no agent. The
// firmware closes the platform hierarchy first, as that of a machine does (PC
// Client Platform Firmware Profile, section 11; OVMF draws an authorization
// and forgets it).
func (m *machine) bootAnother() transport.TPM {
	m.t.Helper()
	m.device.PowerOff()
	m.device.PowerOn()
	forgotten, err := attester.DrawAuthorization(rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	_, err = tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)},
		NewAuth:    tpm2.TPM2BAuth{Buffer: forgotten},
	}.Execute(m.device)
	if err != nil {
		m.t.Fatal(err)
	}
	_, err = tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: 4, Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}},
	}.Execute(m.device)
	if err != nil {
		m.t.Fatal(err)
	}
	return m.device
}

func under(hierarchy tpm2.TPMHandle) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: hierarchy, Auth: tpm2.PasswordAuth(nil)}
}

// define makes an index of an image's own.
func define(device transport.TPM, hierarchy tpm2.TPMHandle) error {
	_, err := tpm2.NVDefineSpace{
		AuthHandle: under(hierarchy),
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: 0x01800180, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
			Attributes: tpm2.TPMANV{OwnerWrite: true, PPWrite: hierarchy == tpm2.TPMRHPlatform, AuthRead: true, PlatformCreate: hierarchy == tpm2.TPMRHPlatform},
		}),
	}.Execute(device)
	return err
}

func undefine(device transport.TPM, hierarchy, index tpm2.TPMHandle) error {
	named, err := nameNV(device, index)
	if err != nil {
		return err
	}
	_, err = tpm2.NVUndefineSpace{AuthHandle: under(hierarchy), NVIndex: named}.Execute(device)
	return err
}

// write tries an index under a hierarchy, or under its own authorization.
func write(device transport.TPM, by, index tpm2.TPMHandle) error {
	named, err := nameNV(device, index)
	if err != nil {
		return err
	}
	auth := under(by)
	if by == index {
		auth = tpm2.AuthHandle{Handle: index, Name: named.Name, Auth: tpm2.PasswordAuth(nil)}
	}
	_, err = tpm2.NVWrite{AuthHandle: auth, NVIndex: named, Data: tpm2.TPM2BMaxNVBuffer{Buffer: make([]byte, 8)}}.Execute(device)
	return err
}

// remove evicts a key that is kept.
func remove(device transport.TPM, hierarchy, handle tpm2.TPMHandle) error {
	public, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(device)
	if err != nil {
		return err
	}
	_, err = tpm2.EvictControl{
		Auth: under(hierarchy), ObjectHandle: tpm2.NamedHandle{Handle: handle, Name: public.Name}, PersistentHandle: handle,
	}.Execute(device)
	return err
}

// keep keeps a key of an image's own, of a hierarchy that it can use.
func keep(device transport.TPM, hierarchy tpm2.TPMHandle) error {
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm.AKTemplate())}.Execute(device)
	if err != nil {
		return err
	}
	defer flush(device, made.ObjectHandle)
	_, err = tpm2.EvictControl{
		Auth:         under(hierarchy),
		ObjectHandle: tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, PersistentHandle: 0x81000180,
	}.Execute(device)
	return err
}

func changeAuth(device transport.TPM, hierarchy tpm2.TPMHandle) error {
	_, err := tpm2.HierarchyChangeAuth{AuthHandle: under(hierarchy), NewAuth: tpm2.TPM2BAuth{Buffer: []byte("mine")}}.Execute(device)
	return err
}

// allow turns TPM2_Clear back on.
func allow(device transport.TPM, hierarchy tpm2.TPMHandle) error {
	return raw(device, ccClearControl, hierarchy, []byte{0})
}

func wipe(device transport.TPM, hierarchy tpm2.TPMHandle) error {
	_, err := tpm2.Clear{AuthHandle: under(hierarchy)}.Execute(device)
	return err
}

// raw sends a command on a hierarchy with an empty authorization and answers
// the TPM's own reason.
func raw(device transport.TPM, code tpm2.TPMCC, hierarchy tpm2.TPMHandle, parameters []byte) error {
	var reason error
	watched := answering{device, &reason}
	if err := command(watched, code, hierarchy, nil, parameters); err == nil {
		return nil
	}
	return reason
}

type answering struct {
	transport.TPM
	reason *error
}

func (a answering) Send(command []byte) ([]byte, error) {
	answer, err := a.TPM.Send(command)
	if err == nil {
		*a.reason = responseCode(answer)
	}
	return answer, err
}

// attempts are what another image tries, each with the reasons that the TPM may
// refuse it for.
func attempts() map[string]func(transport.TPM) error {
	const newOwnerPolicy = "\x00\x20################################\x00\x0b"
	all := map[string]func(transport.TPM) error{
		"derive a key of the owner's": func(d transport.TPM) error {
			_, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm.AKTemplate())}.Execute(d)
			return err
		},
		"set the owner's policy": func(d transport.TPM) error {
			return raw(d, ccSetPrimaryPolicy, tpm2.TPMRHOwner, []byte(newOwnerPolicy))
		},
		"set the lockout's policy": func(d transport.TPM) error {
			return raw(d, ccSetPrimaryPolicy, tpm2.TPMRHLockout, []byte(newOwnerPolicy))
		},
		"change the owner's":    func(d transport.TPM) error { return changeAuth(d, tpm2.TPMRHOwner) },
		"change the lockout's":  func(d transport.TPM) error { return changeAuth(d, tpm2.TPMRHLockout) },
		"change the platform's": func(d transport.TPM) error { return changeAuth(d, tpm2.TPMRHPlatform) },
		// TPM2_ChangeEPS, ChangePPS and HierarchyControl of the owner's.
		"change the endorsement seed": func(d transport.TPM) error { return raw(d, 0x124, tpm2.TPMRHPlatform, nil) },
		"change the platform seed":    func(d transport.TPM) error { return raw(d, 0x125, tpm2.TPMRHPlatform, nil) },
		"switch the owner off":        func(d transport.TPM) error { return raw(d, 0x121, tpm2.TPMRHOwner, []byte{0x40, 0, 0, 1, 0}) },
		// TPM2_NV_GlobalWriteLock and TPM2_ClockSet.
		"lock all indices": func(d transport.TPM) error { return raw(d, 0x132, tpm2.TPMRHOwner, nil) },
		"set the clock":    func(d transport.TPM) error { return raw(d, 0x128, tpm2.TPMRHOwner, bytes.Repeat([]byte{0x7f}, 8)) },
	}
	for name, hierarchy := range map[string]tpm2.TPMHandle{"owner": tpm2.TPMRHOwner, "platform": tpm2.TPMRHPlatform} {
		all["define an index as "+name] = func(d transport.TPM) error { return define(d, hierarchy) }
		all["keep a key as "+name] = func(d transport.TPM) error { return keep(d, hierarchy) }
		for what, index := range indices {
			all["undefine the "+what+" as "+name] = func(d transport.TPM) error { return undefine(d, hierarchy, index) }
			all["write the "+what+" as "+name] = func(d transport.TPM) error { return write(d, hierarchy, index) }
		}
		for what, handle := range map[string]tpm2.TPMHandle{"attestation": attester.AKHandle, "storage": handleSRK} {
			all["evict the "+what+" key as "+name] = func(d transport.TPM) error { return remove(d, hierarchy, handle) }
		}
	}
	for what, index := range indices {
		all["write the "+what+" by itself"] = func(d transport.TPM) error { return write(d, index, index) }
	}
	for name, hierarchy := range map[string]tpm2.TPMHandle{"lockout": tpm2.TPMRHLockout, "platform": tpm2.TPMRHPlatform} {
		all["clear as "+name] = func(d transport.TPM) error { return wipe(d, hierarchy) }
		all["allow clear as "+name] = func(d transport.TPM) error { return allow(d, hierarchy) }
	}
	return all
}

var indices = map[string]tpm2.TPMHandle{"claim": indexClaim, "document": indexDocument, "volume": indexVolume, "epoch": indexEpoch}

// refusals are the TPM's reasons that an attempt may be refused for: the wrong
// authorization, or one that the index does not take at all.
var refusals = []tpm2.TPMRC{tpm2.TPMRCBadAuth, tpm2.TPMRCAuthFail, tpm2.TPMRCNVAuthorization, tpm2.TPMRCAuthUnavailable, tpm2.TPMRCDisabled, tpm2.TPMRCLockout}

func isRefusal(err error) bool {
	for _, reason := range refusals {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// After the claim no other image defines, undefines, writes or clears anything
// in the TPM: issue of design promise 10. The good image goes on as before.
func TestAnotherImageAfterTheClaim(t *testing.T) {
	m, key := claimed(t)
	device := m.bootAnother()
	for name, attempt := range attempts() {
		if err := attempt(device); !isRefusal(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m.reboot()
	if _, err := m.openVolume(); err != nil || !bytes.Equal(m.mapper.key, key) {
		t.Errorf("afterwards the good image: %v", err)
	}
	m.wantClosed()
	b, err := m.tpm.Evidence(attester.Subject{Channel: attest.Channel{Role: attest.RoleServe, SPKI: []byte("spki")}})
	if err != nil || len(b) == 0 {
		t.Errorf("afterwards no evidence: %v", err)
	}
}

// Each attempt succeeds on a machine that nobody has claimed, but for what only
// a claim makes: what refuses them is the claim.
func TestAnotherImageBeforeTheClaim(t *testing.T) {
	for name, attempt := range map[string]func(transport.TPM) error{
		"define an index":    func(d transport.TPM) error { return define(d, tpm2.TPMRHOwner) },
		"keep a key":         func(d transport.TPM) error { return keep(d, tpm2.TPMRHOwner) },
		"change the owner's": func(d transport.TPM) error { return changeAuth(d, tpm2.TPMRHOwner) },
		"clear":              func(d transport.TPM) error { return wipe(d, tpm2.TPMRHLockout) },
	} {
		m := newMachine(t)
		if err := attempt(m.bootAnother()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Without firmware that closes it, as here where there is none, the platform
// hierarchy undoes what the claim closed. Whoever supplies the firmware has it.
func TestPlatformHierarchyIsTheFirmwares(t *testing.T) {
	m, _ := claimed(t)
	m.device.PowerOff()
	m.device.PowerOn()
	if err := wipe(m.device, tpm2.TPMRHPlatform); !errors.Is(err, tpm2.TPMRCDisabled) {
		t.Errorf("clear while it is disabled: %v", err)
	}
	if err := allow(m.device, tpm2.TPMRHPlatform); err != nil {
		t.Errorf("enabling clear: %v", err)
	}
	if err := wipe(m.device, tpm2.TPMRHPlatform); err != nil {
		t.Errorf("clear: %v", err)
	}
}

// A TPM whose authorizations somebody else set takes no claim, and one that
// they set in the midst of a claim opens no volume.
func TestAuthorizationsOfAnother(t *testing.T) {
	for name, hierarchy := range map[string]tpm2.TPMHandle{"owner": tpm2.TPMRHOwner, "lockout": tpm2.TPMRHLockout} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			if err := Prepare(m.tpm); err != nil {
				t.Fatal(err)
			}
			if err := changeAuth(m.device, hierarchy); err != nil {
				t.Fatal(err)
			}
			m.reboot()
			if err := m.commit(); !errors.Is(err, ErrOwned) {
				t.Errorf("error %v, want %v", err, ErrOwned)
			}
		})
		t.Run(name+" in the midst", func(t *testing.T) {
			m := newMachine(t)
			if err := m.commit(); err != nil {
				t.Fatal(err)
			}
			m.failOwn()
			if err := changeAuth(m.bootAnother(), hierarchy); err != nil {
				t.Fatal(err)
			}
			m.reboot()
			m.refused(ErrOwned)
		})
	}
}

// Whoever has the lockout authorization turns TPM2_Clear on again, so that it
// says nothing that it is off.
func TestLockoutOfAnotherWithClearOff(t *testing.T) {
	m := newMachine(t)
	if err := m.commit(); err != nil {
		t.Fatal(err)
	}
	m.failOwn()
	device := m.bootAnother()
	if err := errors.Join(disableClear(device, nil), changeAuth(device, tpm2.TPMRHLockout)); err != nil {
		t.Fatal(err)
	}
	m.reboot()
	m.refused(ErrOwned)
}

// A policy of the lockout hierarchy that another image set is gone once the TPM
// is closed.
func TestLockoutPolicyOfAnother(t *testing.T) {
	m := newMachine(t)
	if err := m.commit(); err != nil {
		t.Fatal(err)
	}
	m.failOwn()
	policy := append([]byte{0, 32}, append(make([]byte, 32), 0, 0x0b)...)
	if err := raw(m.bootAnother(), ccSetPrimaryPolicy, tpm2.TPMRHLockout, policy); err != nil {
		t.Fatal(err)
	}
	m.reboot()
	m.wantMended()
	device := m.bootAnother()
	// An empty policy session satisfies a policy of zeros.
	session, end, err := tpm2.PolicySession(device, tpm2.TPMAlgSHA256, 16)
	if err != nil {
		t.Fatal(err)
	}
	defer end() //nolint:errcheck // the TPM ends with the test
	_, err = tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: session}, NewAuth: tpm2.TPM2BAuth{Buffer: []byte("mine")},
	}.Execute(device)
	if err == nil {
		t.Error("the lockout's policy is still another's")
	}
}

// What another image plants while a claim is cut short is gone once the TPM is
// closed: its key, its index that it could write again, its policy.
func TestPlantedInTheMidstOfAClaim(t *testing.T) {
	m := newMachine(t)
	if err := m.commit(); err != nil {
		t.Fatal(err)
	}
	m.failOwn()
	device := m.bootAnother()
	volume, err := readNV(device, indexVolume)
	if err != nil {
		t.Fatal(err)
	}
	byItself := rewritable
	byItself.AuthWrite = true
	for index, content := range map[tpm2.TPMHandle][]byte{indexVolume: volume, indexDocument: m.document(device)} {
		if err := putNV(device, index, byItself, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := remove(device, tpm2.TPMRHOwner, handleSRK); err != nil {
		t.Fatal(err)
	}
	// A key with our template and an authorization of the image's own.
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: []byte("mine")}}},
	}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		keepAt(device, made.ObjectHandle, made.Name, handleSRK),
		raw(device, ccSetPrimaryPolicy, tpm2.TPMRHOwner, append([]byte{0, 32}, append(make([]byte, 32), 0, 0x0b)...)),
	); err != nil {
		t.Fatal(err)
	}
	m.reboot()
	m.wantMended()
	device = m.bootAnother()
	for what, index := range indices {
		if err := write(device, index, index); !isRefusal(err) {
			t.Errorf("the %s is written by itself: %v", what, err)
		}
	}
	// An empty policy session satisfies a policy of zeros.
	session, end, err := tpm2.PolicySession(device, tpm2.TPMAlgSHA256, 16)
	if err != nil {
		t.Fatal(err)
	}
	defer end() //nolint:errcheck // the TPM ends with the test
	_, err = tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: session}, NewAuth: tpm2.TPM2BAuth{Buffer: []byte("mine")},
	}.Execute(device)
	if err == nil {
		t.Error("the owner's policy is still another's")
	}
}

func (m *machine) document(device transport.TPM) []byte {
	m.t.Helper()
	b, err := readNV(device, indexDocument)
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

func keepAt(device transport.TPM, handle tpm2.TPMHandle, name tpm2.TPM2BName, at tpm2.TPMHandle) error {
	_, err := tpm2.EvictControl{
		Auth: under(tpm2.TPMRHOwner), ObjectHandle: tpm2.NamedHandle{Handle: handle, Name: name}, PersistentHandle: at,
	}.Execute(device)
	return err
}

// The epoch's floor rises under the authorization that the volume holds, is
// never lowered, and shuts older images out.
func TestSettle(t *testing.T) {
	m, _ := claimed(t)
	if err := new(DataVolume).Settle(); !errors.Is(err, ErrNoHandover) {
		t.Errorf("without a volume: %v", err)
	}
	m.volume.Epoch = 2
	if err := m.volume.Settle(); err != nil {
		t.Fatal(err)
	}
	m.wantEpoch(3)
	m.volume.Epoch = 5
	if err := m.volume.Settle(); err != nil {
		t.Fatal(err)
	}
	m.wantEpoch(5)
	m.reboot()
	m.volume.Epoch = 3
	m.refused(ErrSealed)
}

func (m *machine) wantEpoch(epoch uint64) {
	m.t.Helper()
	err := m.tpm.Do(func(device transport.TPM) error {
		got, err := readNV(device, indexEpoch)
		if !bytes.HasPrefix(got, encodeEpoch(epoch)) {
			m.t.Errorf("the floor is %x, want %d", got, epoch)
		}
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
}
