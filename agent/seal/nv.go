package seal

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest/attester"
)

// writeOnce are the attributes of an index that can be locked for ever.
var writeOnce = tpm2.TPMANV{OwnerWrite: true, AuthRead: true, OwnerRead: true, WriteDefine: true, NoDA: true, NT: tpm2.TPMNTOrdinary}

// rewritable are the attributes of an index that the agent may write again.
var rewritable = tpm2.TPMANV{OwnerWrite: true, AuthRead: true, OwnerRead: true, NoDA: true, NT: tpm2.TPMNTOrdinary}

// putNV makes an index hold all of data and nothing else. What stands there in
// another shape, planted or left by a crash, is defined anew: attributes, a
// policy or an authorization of somebody else's would decide over what is
// written into it.
func putNV(device transport.TPM, index tpm2.TPMHandle, attributes tpm2.TPMANV, data []byte) error {
	if err := undefineNV(device, index); err != nil {
		return err
	}
	_, err := tpm2.NVDefineSpace{
		AuthHandle: owner(),
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, Attributes: attributes, DataSize: uint16(len(data)),
		}),
	}.Execute(device)
	if err != nil {
		return fmt.Errorf("defining nv index %#x: %w", uint32(index), err)
	}
	const chunk = 512
	for offset := 0; offset < len(data); offset += chunk {
		named, err := nameNV(device, index)
		if err != nil {
			return err
		}
		_, err = tpm2.NVWrite{
			AuthHandle: owner(), NVIndex: named, Offset: uint16(offset),
			Data: tpm2.TPM2BMaxNVBuffer{Buffer: data[offset:min(offset+chunk, len(data))]},
		}.Execute(device)
		if err != nil {
			return fmt.Errorf("writing nv index %#x: %w", uint32(index), err)
		}
	}
	return nil
}

// undefineNV removes an index; one that is not there is fine.
func undefineNV(device transport.TPM, index tpm2.TPMHandle) error {
	named, err := nameNV(device, index)
	if errors.Is(err, attester.ErrNoIndex) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := (tpm2.NVUndefineSpace{AuthHandle: owner(), NVIndex: named}).Execute(device); err != nil {
		return fmt.Errorf("undefining nv index %#x: %w", uint32(index), err)
	}
	return nil
}

// isAs reports whether an index has these attributes and no others, whatever
// has become of it since: then its owner alone writes it.
func isAs(public *tpm2.TPMSNVPublic, attributes tpm2.TPMANV) bool {
	have := public.Attributes
	have.Written, have.WriteLocked = false, false
	return have == attributes && public.NameAlg == tpm2.TPMAlgSHA256 && len(public.AuthPolicy.Buffer) == 0
}

// ensureNV is putNV where the index is of another kind or holds something else.
func ensureNV(device transport.TPM, index tpm2.TPMHandle, attributes tpm2.TPMANV, data []byte) error {
	public, err := publicNV(device, index)
	if err == nil && isAs(public, attributes) {
		if there, err := readNV(device, index); err == nil && bytes.Equal(there, data) {
			return nil
		}
	} else if err != nil && !errors.Is(err, attester.ErrNoIndex) {
		return err
	}
	return putNV(device, index, attributes, data)
}

// lockNV makes an index of writeOnce unwritable for as long as it exists.
func lockNV(device transport.TPM, index tpm2.TPMHandle) error {
	named, err := nameNV(device, index)
	if err != nil {
		return err
	}
	if _, err := (tpm2.NVWriteLock{AuthHandle: owner(), NVIndex: named}).Execute(device); err != nil {
		return fmt.Errorf("locking nv index %#x: %w", uint32(index), err)
	}
	return nil
}

// rewriteNV writes an index in place, under the owner's authorization.
func rewriteNV(device transport.TPM, index tpm2.TPMHandle, auth, data []byte) error {
	named, err := nameNV(device, index)
	if err != nil {
		return err
	}
	return withAuthorization(device, auth, func(session tpm2.Session) error {
		_, err = tpm2.NVWrite{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: session}, NVIndex: named,
			Data: tpm2.TPM2BMaxNVBuffer{Buffer: data},
		}.Execute(device)
		if err != nil {
			return fmt.Errorf("writing nv index %#x: %w", uint32(index), owned(err))
		}
		return nil
	})
}

// readNV reads an index that was written; nil where it was not.
func readNV(device transport.TPM, index tpm2.TPMHandle) ([]byte, error) {
	public, err := publicNV(device, index)
	if errors.Is(err, attester.ErrNoIndex) || (err == nil && !public.Attributes.Written) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return attester.ReadNV(device, index)
}

func publicNV(device transport.TPM, index tpm2.TPMHandle) (*tpm2.TPMSNVPublic, error) {
	rsp, err := tpm2.NVReadPublic{NVIndex: index}.Execute(device)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, attester.ErrNoIndex
	}
	if err != nil {
		return nil, fmt.Errorf("reading nv index %#x: %w", uint32(index), err)
	}
	return rsp.NVPublic.Contents()
}

// nameNV reads an index's name, which changes when it is first written and
// when it is locked.
func nameNV(device transport.TPM, index tpm2.TPMHandle) (tpm2.NamedHandle, error) {
	rsp, err := tpm2.NVReadPublic{NVIndex: index}.Execute(device)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return tpm2.NamedHandle{}, attester.ErrNoIndex
	}
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("naming nv index %#x: %w", uint32(index), err)
	}
	return tpm2.NamedHandle{Handle: index, Name: rsp.NVName}, nil
}

// owner authorizes with the owner hierarchy, whose authorization is empty until
// the claim's volume is made.
func owner() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
}
