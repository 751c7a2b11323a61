package attester

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest/tpm"
)

// AKHandle is where the attestation key stands once the machine is claimed, in
// the range that the owner of a TPM may use (TPM 2.0 Handles and Localities
// registry, section 2.3.1): from then on deriving it takes an authorization
// that a boot does not have.
const AKHandle tpm2.TPMHandle = 0x81000100

// The sentinels of kept keys.
var (
	// ErrNoKey says that the TPM keeps no key at a handle.
	ErrNoKey = errors.New("tpm keeps no key at this handle")
	// ErrForeignKey says that a key that the TPM keeps has another template
	// than ours.
	ErrForeignKey = errors.New("key that the tpm keeps is not of our template")
)

// Permanent are a TPM's attributes that outlive a reset, a TPMA_PERMANENT (TPM
// 2.0 Part 2, section 8.6).
type Permanent uint32

// OwnerAuthSet says that the owner hierarchy has an authorization.
func (p Permanent) OwnerAuthSet() bool { return p&(1<<0) != 0 }

// LockoutAuthSet says that the lockout hierarchy has one.
func (p Permanent) LockoutAuthSet() bool { return p&(1<<2) != 0 }

// ClearDisabled says that TPM2_Clear is refused.
func (p Permanent) ClearDisabled() bool { return p&(1<<8) != 0 }

// ReadPermanent asks the TPM for them. Errors are the TPM's.
func ReadPermanent(device transport.TPM) (Permanent, error) {
	rsp, err := tpm2.GetCapability{
		Capability: tpm2.TPMCapTPMProperties, Property: uint32(tpm2.TPMPTPermanent), PropertyCount: 1,
	}.Execute(device)
	if err != nil {
		return 0, fmt.Errorf("reading permanent attributes: %w", err)
	}
	properties, err := rsp.CapabilityData.Data.TPMProperties()
	if err != nil {
		return 0, fmt.Errorf("reading permanent attributes: %w", err)
	}
	if len(properties.TPMProperty) != 1 || properties.TPMProperty[0].Property != tpm2.TPMPTPermanent {
		return 0, fmt.Errorf("reading permanent attributes: %w", io.ErrUnexpectedEOF)
	}
	return Permanent(properties.TPMProperty[0].Value), nil
}

// Key is a key in the TPM.
type Key struct {
	Handle tpm2.TPMHandle
	Name   tpm2.TPM2BName
	Public tpm2.TPMTPublic
}

// DeriveKey derives a primary key from the owner's seed, which takes an empty
// owner authorization. The caller flushes it. Errors are the TPM's.
func DeriveKey(device transport.TPM, template tpm2.TPMTPublic) (Key, error) {
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(template)}.Execute(device)
	if err != nil {
		return Key{}, fmt.Errorf("deriving key: %w", err)
	}
	public, err := rsp.OutPublic.Contents()
	if err != nil {
		return Key{}, fmt.Errorf("deriving key: %w", err)
	}
	return Key{Handle: rsp.ObjectHandle, Name: rsp.Name, Public: *public}, nil
}

// KeptKey is the key at a persistent handle. The error is ErrNoKey,
// ErrForeignKey where anything but the point itself differs from the template,
// or the TPM's.
func KeptKey(device transport.TPM, handle tpm2.TPMHandle, template tpm2.TPMTPublic) (Key, error) {
	rsp, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(device)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return Key{}, fmt.Errorf("%#x: %w", uint32(handle), ErrNoKey)
	}
	if err != nil {
		return Key{}, fmt.Errorf("reading kept key %#x: %w", uint32(handle), err)
	}
	public, err := rsp.OutPublic.Contents()
	if err != nil {
		return Key{}, fmt.Errorf("reading kept key %#x: %w", uint32(handle), err)
	}
	same := *public
	same.Unique = template.Unique
	if !bytes.Equal(tpm2.Marshal(same), tpm2.Marshal(template)) {
		return Key{}, fmt.Errorf("%#x: %w", uint32(handle), ErrForeignKey)
	}
	return Key{Handle: handle, Name: rsp.Name, Public: *public}, nil
}

// KeepKey makes the key that the template derives stand at a persistent handle
// with an empty authorization, and evicts whatever stands there: what was
// planted may be that very key, whose name says nothing of the authorization
// that it was given. It takes an empty owner authorization. Errors are the
// TPM's.
func KeepKey(device transport.TPM, handle tpm2.TPMHandle, template tpm2.TPMTPublic) (err error) {
	key, err := DeriveKey(device, template)
	if err != nil {
		return err
	}
	defer func() {
		if _, gone := (tpm2.FlushContext{FlushHandle: key.Handle}).Execute(device); gone != nil {
			err = errors.Join(err, fmt.Errorf("flushing key: %w", gone))
		}
	}()
	there, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(device)
	switch {
	case err == nil:
		if err := evict(device, tpm2.NamedHandle{Handle: handle, Name: there.Name}, handle); err != nil {
			return err
		}
	case !errors.Is(err, tpm2.TPMRCHandle):
		return fmt.Errorf("reading kept key %#x: %w", uint32(handle), err)
	}
	return evict(device, tpm2.NamedHandle{Handle: key.Handle, Name: key.Name}, handle)
}

// evict keeps a loaded key at a handle, or removes a kept one.
func evict(device transport.TPM, key tpm2.NamedHandle, handle tpm2.TPMHandle) error {
	_, err := tpm2.EvictControl{
		Auth:         tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		ObjectHandle: key, PersistentHandle: handle,
	}.Execute(device)
	if err != nil {
		return fmt.Errorf("keeping a key at %#x: %w", uint32(handle), err)
	}
	return nil
}

// findAK derives the attestation key, or takes the kept one where somebody set
// the owner's authorization: without one, only the derived key is known to be
// the TPM's own and not another's who could boot it.
func findAK(device transport.TPM) (Key, error) {
	permanent, err := ReadPermanent(device)
	if err != nil {
		return Key{}, err
	}
	find := func() (Key, error) { return DeriveKey(device, tpm.AKTemplate()) }
	if permanent.OwnerAuthSet() {
		find = func() (Key, error) { return KeptKey(device, AKHandle, tpm.AKTemplate()) }
	}
	key, err := find()
	if err != nil {
		return Key{}, fmt.Errorf("attestation key: %w", err)
	}
	return key, nil
}

// DrawAuthorization draws 32 bytes, none of them zero: a TPM takes zeros off
// the end of an authorization, and go-tpm v0.9.8 cuts the key of an HMAC
// session at the first zero wherever it stands, so that one in eight would be
// refused. Errors are those of random.
func DrawAuthorization(random io.Reader) ([]byte, error) {
	const size = 32
	drawn := make([]byte, 2*size)
	if _, err := io.ReadFull(random, drawn); err != nil {
		return nil, fmt.Errorf("drawing an authorization: %w", err)
	}
	auth := slices.DeleteFunc(drawn, func(b byte) bool { return b == 0 })
	if len(auth) < size {
		return nil, fmt.Errorf("drawing an authorization: %d of %d bytes are zero", 2*size-len(auth), 2*size)
	}
	return auth[:size], nil
}
