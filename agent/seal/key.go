package seal

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// keyBytes is an AEGIS-128 key.
const keyBytes = 16

// Sealed is a data key as the TPM wrapped it, a TPM2B_PUBLIC and a
// TPM2B_PRIVATE, and what the TPM says of its making: a TPMS_CREATION_DATA and
// a TPMT_TK_CREATION (TPM 2.0 Part 2, sections 12.2.5, 12.3.7, 15.1, 10.6.3).
type Sealed struct {
	Public   []byte `cbor:"1,keyasint"`
	Private  []byte `cbor:"2,keyasint"`
	Creation []byte `cbor:"3,keyasint"`
	Ticket   []byte `cbor:"4,keyasint"`
}

// terms are what a data key is sealed under.
type terms struct {
	// registers of the SHA-256 bank, besides the claim's.
	registers []uint8
	// claim is the digest in the claim's index.
	claim attest.Digest
	epoch uint64
	// updates is how many the TPM may remember at the most.
	updates uint64
	// header is the digest of the header that the key stands in.
	header attest.Digest
	// values are the registers', one after another; nil for those of this boot.
	values []byte
	// maker is attest.Registers.SealDigest of the image that may have sealed the
	// key; zero for this one.
	maker attest.Digest
}

// drawKey draws a data key.
func drawKey(rand io.Reader) ([]byte, error) {
	key := make([]byte, keyBytes)
	if _, err := io.ReadFull(rand, key); err != nil {
		return nil, fmt.Errorf("drawing data key: %w", err)
	}
	return key, nil
}

// newSealed seals a data key to the state in which the next boot will ask for
// it. The error is ErrSealed where the floor of the epoch is above this image,
// or the TPM's.
func newSealed(d Device, key []byte, t terms) (sealed Sealed, err error) {
	err = d.Do(func(device transport.TPM) error {
		if err := ensureFloor(device, t.epoch); err != nil {
			return err
		}
		policy, err := trialPolicy(device, t)
		if err != nil {
			return err
		}
		sealed, err = sealKey(device, key, policy, t)
		return err
	})
	return sealed, err
}

func sealKey(device transport.TPM, key []byte, policy tpm2.TPM2BDigest, t terms) (Sealed, error) {
	srk, err := loadSRK(device)
	if err != nil {
		return Sealed{}, err
	}
	// As with unsealing, the key does not cross a bus in the clear.
	encrypted := tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Salted(srk.Handle, srk.Public), tpm2.AESEncryption(128, tpm2.EncryptIn))
	rsp, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: srk.Handle, Name: srk.Name, Auth: tpm2.PasswordAuth(nil)},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: key}),
		}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: true},
			AuthPolicy:       policy,
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash,
				&tpm2.TPMSKeyedHashParms{Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull}}),
		}),
		OutsideInfo: tpm2.TPM2BData{Buffer: t.header[:]},
		CreationPCR: tpm.SelectSHA256(t.registers...),
	}.Execute(device, encrypted)
	if err != nil {
		return Sealed{}, fmt.Errorf("sealing data key: %w", err)
	}
	return Sealed{
		Public: tpm2.Marshal(rsp.OutPublic), Private: tpm2.Marshal(rsp.OutPrivate),
		Creation: rsp.CreationData.Bytes(), Ticket: tpm2.Marshal(rsp.CreationTicket),
	}, nil
}

// openKey asks the TPM for the data key. The error is ErrSealed where a
// register, the claim or the epoch is not what the key was sealed to, or
// another TPM sealed it, and ErrMaker where another image did.
func openKey(d Device, sealed Sealed, t terms) ([]byte, error) {
	var key []byte
	err := d.Do(func(device transport.TPM) error {
		srk, err := loadSRK(device)
		if err != nil {
			return err
		}
		object, err := loadSealed(device, srk, sealed)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSealed, err)
		}
		defer flush(device, object.Handle)
		key, err = unsealUnder(device, srk, object, t)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSealed, err)
		}
		return checkMaker(device, srk, object, sealed, t)
	})
	if err != nil {
		clear(key)
		return nil, err
	}
	if len(key) != keyBytes {
		return nil, fmt.Errorf("%w: key has %d bytes, want %d", ErrSealed, len(key), keyBytes)
	}
	return key, nil
}

func loadSealed(device transport.TPM, srk attester.Key, sealed Sealed) (tpm2.NamedHandle, error) {
	public, err := tpm2.Unmarshal[tpm2.TPM2BPublic](sealed.Public)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("parsing sealed key: %w", err)
	}
	private, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](sealed.Private)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("parsing sealed key: %w", err)
	}
	rsp, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: srk.Handle, Name: srk.Name, Auth: tpm2.PasswordAuth(nil)},
		InPublic:     *public, InPrivate: *private,
	}.Execute(device)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("loading sealed key: %w", err)
	}
	return tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}, nil
}

// unsealTries is how often a policy is tried that something came between.
const unsealTries = 64

// unsealUnder fulfils the policy of the terms and unseals. With Secure Boot on the
// kernel measures each module that it loads into register 10 (Linux 6.12,
// arch/x86/kernel/ima_arch.c), also while the data disk's are loaded meanwhile. A
// TPM then takes no policy that names registers, whichever (TPM 2.0 Part 3, section
// 23.7): it is fulfilled anew, and holds no less.
func unsealUnder(device transport.TPM, srk attester.Key, object tpm2.NamedHandle, t terms) ([]byte, error) {
	for try := 1; ; try++ {
		key, err := unseal(device, srk, object, func(device transport.TPM, session tpm2.TPMISHPolicy) error {
			return assertPolicy(device, session, tpm2.TPM2BDigest{}, t)
		})
		if !errors.Is(err, tpm2.TPMRCPCRChanged) || try == unsealTries {
			return key, err
		}
	}
}

// unseal encrypts the answer to a session salted with the storage key, so that
// the key does not cross a bus in the clear.
func unseal(device transport.TPM, srk attester.Key, object tpm2.NamedHandle, assert func(transport.TPM, tpm2.TPMISHPolicy) error) ([]byte, error) {
	var key []byte
	use := func(session tpm2.Session) error {
		rsp, err := tpm2.Unseal{
			ItemHandle: tpm2.AuthHandle{Handle: object.Handle, Name: object.Name, Auth: session},
		}.Execute(device)
		if err != nil {
			return fmt.Errorf("unsealing: %w", err)
		}
		key = rsp.OutData.Buffer
		return nil
	}
	err := attester.WithPolicySession(device, assert, use,
		tpm2.Salted(srk.Handle, srk.Public), tpm2.AESEncryption(128, tpm2.EncryptOut))
	return key, err
}

// trialPolicy computes the policy's digest without fulfilling it: the claim
// register is no longer zero while a key is made.
func trialPolicy(device transport.TPM, t terms) (tpm2.TPM2BDigest, error) {
	expected, err := expectedRegisters(device, t)
	if err != nil {
		return tpm2.TPM2BDigest{}, err
	}
	session, end, err := tpm2.PolicySession(device, tpm2.TPMAlgSHA256, 16, tpm2.Trial())
	if err != nil {
		return tpm2.TPM2BDigest{}, fmt.Errorf("starting trial session: %w", err)
	}
	err = assertPolicy(device, session.Handle(), expected, t)
	var digest tpm2.TPM2BDigest
	if err == nil {
		var rsp *tpm2.PolicyGetDigestResponse
		if rsp, err = (tpm2.PolicyGetDigest{PolicySession: session.Handle()}).Execute(device); err == nil {
			digest = rsp.PolicyDigest
		}
	}
	return digest, errors.Join(err, end())
}

// assertPolicy runs the policy's four terms in a session: the registers, the
// claim's digest, an epoch floor that is not above this image's epoch, and no more
// updates than the header of the key says: the header of a release that was replaced
// by one of the same epoch opens nothing. In a
// trial session registers stands for the registers' values.
func assertPolicy(device transport.TPM, session tpm2.TPMISHPolicy, registers tpm2.TPM2BDigest, t terms) error {
	_, err := tpm2.PolicyPCR{
		PolicySession: session, PcrDigest: registers,
		Pcrs: tpm.SelectSHA256(append(slices.Clone(t.registers), attest.RegisterClaim)...),
	}.Execute(device)
	if err != nil {
		return fmt.Errorf("asserting registers: %w", err)
	}
	if err := assertNV(device, session, indexClaim, 0, t.claim[:], tpm2.TPMEOEq); err != nil {
		return fmt.Errorf("asserting claim: %w", err)
	}
	if err := assertNV(device, session, indexEpoch, 0, encodeEpoch(t.epoch), tpm2.TPMEOUnsignedLE); err != nil {
		return fmt.Errorf("asserting epoch: %w", err)
	}
	if err := assertNV(device, session, indexEpoch, placeUpdates, encodeEpoch(t.updates), tpm2.TPMEOUnsignedLE); err != nil {
		return fmt.Errorf("asserting count of updates: %w", err)
	}
	return nil
}

func assertNV(device transport.TPM, session tpm2.TPMISHPolicy, index tpm2.TPMHandle, offset uint16, operand []byte, operation tpm2.TPMEO) error {
	named, err := nameNV(device, index)
	if err != nil {
		return err
	}
	_, err = tpm2.PolicyNV{
		AuthHandle: tpm2.AuthHandle{Handle: named.Handle, Name: named.Name, Auth: tpm2.PasswordAuth(nil)},
		NVIndex:    named, PolicySession: session,
		OperandB: tpm2.TPM2BOperand{Buffer: operand}, Offset: offset, Operation: operation,
	}.Execute(device)
	return err
}

// expectedRegisters is the digest of the sealed registers as the key's user will
// have them, with the claim register as a boot finds it.
func expectedRegisters(device transport.TPM, t terms) (tpm2.TPM2BDigest, error) {
	values := t.values
	if values == nil {
		var err error
		if values, err = readRegisters(device, t.registers); err != nil {
			return tpm2.TPM2BDigest{}, err
		}
	}
	zero := attest.Digest{}
	digest := attest.Sum(append(slices.Clone(values), zero[:]...))
	return tpm2.TPM2BDigest{Buffer: digest[:]}, nil
}

// readRegisters is the values of at most eight registers, one after another.
func readRegisters(device transport.TPM, registers []uint8) ([]byte, error) {
	rsp, err := tpm2.PCRRead{PCRSelectionIn: tpm.SelectSHA256(registers...)}.Execute(device)
	if err != nil {
		return nil, fmt.Errorf("reading registers: %w", err)
	}
	if len(rsp.PCRValues.Digests) != len(registers) {
		return nil, fmt.Errorf("reading registers: %d values for %d", len(rsp.PCRValues.Digests), len(registers))
	}
	var values []byte
	for _, value := range rsp.PCRValues.Digests {
		values = append(values, value.Buffer...)
	}
	return values, nil
}

func flush(device transport.TPM, handle tpm2.TPMHandle) {
	tpm2.FlushContext{FlushHandle: handle}.Execute(device) //nolint:errcheck // a TPM that can't flush fails the next load
}
