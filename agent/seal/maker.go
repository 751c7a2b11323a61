package seal

import (
	"bytes"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// checkMaker has the TPM confirm how a loaded key was made, and accepts it only
// from an accepted maker, under this storage key, for this header. The TPM
// alone can make the ticket (TPM 2.0 Part 3, section 18.3; with no signing key
// the command only compares). The error is ErrMaker, or the TPM's.
func checkMaker(device transport.TPM, srk attester.Key, object tpm2.NamedHandle, sealed Sealed, t terms) error {
	creation, err := tpm2.Unmarshal[tpm2.TPMSCreationData](sealed.Creation)
	if err != nil {
		return fmt.Errorf("%w: creation data: %w", ErrMaker, err)
	}
	ticket, err := tpm2.Unmarshal[tpm2.TPMTTKCreation](sealed.Ticket)
	if err != nil {
		return fmt.Errorf("%w: creation ticket: %w", ErrMaker, err)
	}
	hash := attest.Sum(sealed.Creation)
	_, err = tpm2.CertifyCreation{
		SignHandle:     tpm2.AuthHandle{Handle: tpm2.TPMRHNull, Auth: tpm2.PasswordAuth(nil)},
		ObjectHandle:   object,
		CreationHash:   tpm2.TPM2BDigest{Buffer: hash[:]},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		CreationTicket: *ticket,
	}.Execute(device)
	if err != nil {
		return fmt.Errorf("%w: creation ticket: %w", ErrMaker, err)
	}
	maker, err := acceptedMaker(device, t)
	if err != nil {
		return err
	}
	switch {
	case !bytes.Equal(creation.OutsideInfo.Buffer, t.header[:]):
		return fmt.Errorf("%w: it was made for another header", ErrMaker)
	case !bytes.Equal(creation.ParentName.Buffer, srk.Name.Buffer):
		return fmt.Errorf("%w: it was made under another storage key", ErrMaker)
	case !bytes.Equal(tpm2.Marshal(creation.PCRSelect), tpm2.Marshal(tpm.SelectSHA256(t.registers...))):
		return fmt.Errorf("%w: other registers were noted at its making", ErrMaker)
	case !bytes.Equal(creation.PCRDigest.Buffer, maker[:]):
		return fmt.Errorf("%w: it was made under registers %.8x…, and may be under %.8x…", ErrMaker, creation.PCRDigest.Buffer, maker[:])
	}
	return nil
}

// acceptedMaker is the digest of the registers of the only image that may have
// sealed the key: this one, or the one that it takes over from.
func acceptedMaker(device transport.TPM, t terms) (attest.Digest, error) {
	if !t.maker.IsZero() {
		return t.maker, nil
	}
	values, err := readRegisters(device, t.registers)
	if err != nil {
		return attest.Digest{}, err
	}
	return attest.Sum(values), nil
}
