package nitrotpm

import (
	"errors"
	"fmt"
	"io"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest/attester"
)

// chunk is what every TPM takes and returns at once (TPM_PT_NV_BUFFER_MAX is at
// least 512, PC Client Platform TPM Profile 1.05, table 10).
const chunk = 512

// buffer is the index that carries request and answer.
type buffer struct {
	device transport.TPM
	owner  []byte
	auth   []byte
	size   uint16
}

// define makes the index anew. One that is there was left by a process that
// ended in between, or is somebody else's who knows the owner's authorization.
func define(device transport.TPM, random io.Reader, r Request) (*buffer, error) {
	auth, err := attester.DrawAuthorization(random)
	if err != nil {
		return nil, err
	}
	b := &buffer{device: device, owner: r.OwnerAuth, auth: auth, size: r.BufferBytes}
	if b.size == 0 {
		b.size = BufferBytes
	}
	if _, err := b.named(); err == nil {
		if err := b.undefine(); err != nil {
			return nil, err
		}
	}
	public := tpm2.TPMSNVPublic{
		NVIndex: Index, NameAlg: tpm2.TPMAlgSHA256, DataSize: b.size,
		Attributes: tpm2.TPMANV{AuthRead: true, AuthWrite: true, NoDA: true},
	}
	_, err = tpm2.NVDefineSpace{
		AuthHandle: b.ownerHandle(), Auth: tpm2.TPM2BAuth{Buffer: b.auth}, PublicInfo: tpm2.New2B(public),
	}.Execute(device)
	if err != nil {
		return nil, fmt.Errorf("defining nv index %#x of %d bytes: %w", uint32(Index), b.size, err)
	}
	return b, nil
}

func (b *buffer) ownerHandle() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(b.owner)}
}

// named is the index with its name, which its first write changes.
func (b *buffer) named() (tpm2.NamedHandle, error) {
	public, err := tpm2.NVReadPublic{NVIndex: Index}.Execute(b.device)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("reading nv index %#x: %w", uint32(Index), err)
	}
	return tpm2.NamedHandle{Handle: Index, Name: public.NVName}, nil
}

func (b *buffer) handle(n tpm2.NamedHandle) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: n.Handle, Name: n.Name, Auth: tpm2.PasswordAuth(b.auth)}
}

func (b *buffer) write(data []byte) error {
	if len(data) > int(b.size) {
		return fmt.Errorf("asking for a nitro document: %d bytes, at most %d", len(data), b.size)
	}
	for offset := 0; offset < len(data); offset += chunk {
		named, err := b.named()
		if err != nil {
			return err
		}
		_, err = tpm2.NVWrite{
			AuthHandle: b.handle(named), NVIndex: named, Offset: uint16(offset),
			Data: tpm2.TPM2BMaxNVBuffer{Buffer: data[offset:min(offset+chunk, len(data))]},
		}.Execute(b.device)
		if err != nil {
			return fmt.Errorf("writing nv index %#x: %w", uint32(Index), err)
		}
	}
	return nil
}

func (b *buffer) read() ([]byte, error) {
	named, err := b.named()
	if err != nil {
		return nil, err
	}
	var out []byte
	for len(out) < int(b.size) {
		rsp, err := tpm2.NVRead{
			AuthHandle: b.handle(named), NVIndex: named,
			Size: uint16(min(chunk, int(b.size)-len(out))), Offset: uint16(len(out)),
		}.Execute(b.device)
		if err != nil {
			return nil, fmt.Errorf("reading nv index %#x: %w", uint32(Index), err)
		}
		if len(rsp.Data.Buffer) == 0 {
			return nil, fmt.Errorf("reading nv index %#x: %w", uint32(Index), io.ErrUnexpectedEOF)
		}
		out = append(out, rsp.Data.Buffer...)
	}
	return out, nil
}

// undefine removes the index. It is harmless where there is none.
func (b *buffer) undefine() error {
	named, err := b.named()
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := (tpm2.NVUndefineSpace{AuthHandle: b.ownerHandle(), NVIndex: named}).Execute(b.device); err != nil {
		return fmt.Errorf("undefining nv index %#x: %w", uint32(Index), err)
	}
	return nil
}
