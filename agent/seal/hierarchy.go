package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest/attester"
)

// Commands that go-tpm v0.9.8 does not have (TPM 2.0 Part 2, section 6.5.2).
const (
	ccClearControl     tpm2.TPMCC = 0x127
	ccSetPrimaryPolicy tpm2.TPMCC = 0x12e
)

// Prepare readies an unclaimed TPM for a claim: the keys of a boot are kept
// where no authorization is needed for them. The error is ErrOwned where
// somebody else has set an authorization, under which a claim would be theirs
// to destroy, or the TPM's.
func Prepare(d Device) error {
	return d.Do(func(device transport.TPM) error {
		permanent, err := attester.ReadPermanent(device)
		if err != nil {
			return err
		}
		if permanent.OwnerAuthSet() || permanent.LockoutAuthSet() {
			return ErrOwned
		}
		return keepKeys(device)
	})
}

// takeOwnership closes the TPM to whatever else is booted: owner and lockout
// have the authorizations that the volume holds, no policy stands beside them,
// and TPM2_Clear is off. Whatever a crash has left undone is done. The owner's
// policy is cleared at each boot: that shows whose authorization it is. The
// lockout's is not tried again once TPM2_Clear is off, since nothing that
// matters is left for it to do, and another image that guesses at it keeps
// everybody from using it for a while. The error is ErrOwned where
// authorizations are somebody else's, or the TPM's.
func takeOwnership(device transport.TPM, a authorizations, mend func(transport.TPM) error) error {
	permanent, err := attester.ReadPermanent(device)
	if err != nil {
		return err
	}
	if !permanent.OwnerAuthSet() {
		// The lockout's is set after the owner's.
		if permanent.LockoutAuthSet() {
			return ErrOwned
		}
		if err := clearPolicy(device, tpm2.TPMRHOwner, nil); err != nil {
			return err
		}
		if err := mend(device); err != nil {
			return err
		}
		if err := setAuthorization(device, tpm2.TPMRHOwner, a.Owner); err != nil {
			return err
		}
	}
	if err := clearPolicy(device, tpm2.TPMRHOwner, a.Owner); err != nil {
		return err
	}
	if !permanent.LockoutAuthSet() {
		if err := clearPolicy(device, tpm2.TPMRHLockout, nil); err != nil {
			return err
		}
		if err := setAuthorization(device, tpm2.TPMRHLockout, a.Lockout); err != nil {
			return err
		}
	}
	if permanent.ClearDisabled() {
		return nil
	}
	return disableClear(device, a.Lockout)
}

// setAuthorization gives a hierarchy that has none its authorization (TPM 2.0
// Part 3, section 24.8), which does not cross a bus in the clear.
func setAuthorization(device transport.TPM, hierarchy tpm2.TPMHandle, auth []byte) error {
	srk, err := loadSRK(device)
	if err != nil {
		return err
	}
	encrypted := tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Salted(srk.Handle, srk.Public), tpm2.AESEncryption(128, tpm2.EncryptIn))
	_, err = tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: hierarchy, Auth: tpm2.PasswordAuth(nil)},
		NewAuth:    tpm2.TPM2BAuth{Buffer: auth},
	}.Execute(device, encrypted)
	if err != nil {
		return fmt.Errorf("setting authorization of %#x: %w", uint32(hierarchy), err)
	}
	return nil
}

// clearPolicy takes away a hierarchy's policy (TPM 2.0 Part 3, section 24.3),
// by which whoever set it would go on to use the hierarchy.
func clearPolicy(device transport.TPM, hierarchy tpm2.TPMHandle, auth []byte) error {
	parameters := tpm2.Marshal(tpm2.TPM2BDigest{})
	parameters = binary.BigEndian.AppendUint16(parameters, uint16(tpm2.TPMAlgNull))
	if err := command(device, ccSetPrimaryPolicy, hierarchy, auth, parameters); err != nil {
		return fmt.Errorf("clearing policy of %#x: %w", uint32(hierarchy), err)
	}
	return nil
}

// disableClear turns TPM2_Clear off (TPM 2.0 Part 3, section 24.7), which only
// the platform's authorization turns on again.
func disableClear(device transport.TPM, lockout []byte) error {
	if err := command(device, ccClearControl, tpm2.TPMRHLockout, lockout, []byte{1}); err != nil {
		return fmt.Errorf("disabling clear: %w", err)
	}
	return nil
}

// command sends a command on one hierarchy under its authorization (TPM 2.0
// Part 1, section 18); an authorization does not cross the bus. Its answer has
// no parameters, and its HMAC is not looked at: what it did shows in the TPM.
// The error is ErrOwned where the authorization is another.
func command(device transport.TPM, code tpm2.TPMCC, hierarchy tpm2.TPMHandle, auth, parameters []byte) error {
	return withAuthorization(device, auth, func(session tpm2.Session) error {
		if err := session.NewNonceCaller(); err != nil {
			return err
		}
		be := binary.BigEndian
		name := tpm2.TPM2BName{Buffer: be.AppendUint32(nil, uint32(hierarchy))}
		authorization, err := session.Authorize(code, parameters, nil, []tpm2.TPM2BName{name}, 0)
		if err != nil {
			return err
		}
		area := tpm2.Marshal(*authorization)
		const header = 2 + 4 + 4
		c := be.AppendUint16(nil, uint16(tpm2.TPMSTSessions))
		c = be.AppendUint32(c, uint32(header+4+4+len(area)+len(parameters)))
		c = be.AppendUint32(c, uint32(code))
		c = be.AppendUint32(c, uint32(hierarchy))
		c = be.AppendUint32(c, uint32(len(area)))
		answer, err := device.Send(append(append(c, area...), parameters...))
		if err != nil {
			return err
		}
		return owned(responseCode(answer))
	})
}

func responseCode(answer []byte) error {
	if len(answer) < 10 {
		return io.ErrUnexpectedEOF
	}
	if code := tpm2.TPMRC(binary.BigEndian.Uint32(answer[6:])); code != tpm2.TPMRCSuccess {
		return code
	}
	return nil
}

// owned says of a wrong authorization whose it must be then.
func owned(err error) error {
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return fmt.Errorf("%w: %w", ErrOwned, err)
	}
	return err
}

// withAuthorization runs use with a session that knows an authorization, and
// flushes it whatever fails. An empty authorization needs none.
func withAuthorization(device transport.TPM, auth []byte, use func(tpm2.Session) error) error {
	if len(auth) == 0 {
		return use(tpm2.PasswordAuth(nil))
	}
	session, end, err := tpm2.HMACSession(device, tpm2.TPMAlgSHA256, 16, tpm2.Auth(auth))
	if err != nil {
		return fmt.Errorf("starting session: %w", err)
	}
	return errors.Join(use(session), end())
}
