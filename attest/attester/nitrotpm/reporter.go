package nitrotpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/evidence"
)

// Reporter makes the documents that go beside a TPM's quote.
type Reporter struct {
	// Device is the quoting TPM itself: whoever asks for a report has it to
	// themselves meanwhile.
	Device transport.TPM
	Rand   io.Reader
	// OwnerAuth answers the TPM's owner authorization, which a claimed machine
	// has once its volume is open; nil and empty answers are none.
	OwnerAuth func() []byte
	// BufferBytes is as in Request.
	BufferBytes uint16
}

var _ attester.Reporter = (*Reporter)(nil)

// Report has a document signed with data as its user data. Errors are
// Document's, and that it is longer than evidence holds.
func (r *Reporter) Report(data [64]byte) (evidence.Report, error) {
	request := Request{UserData: data[:], BufferBytes: r.BufferBytes}
	if r.OwnerAuth != nil {
		request.OwnerAuth = r.OwnerAuth()
	}
	document, err := Document(r.Device, r.Rand, request)
	if err != nil {
		return evidence.Report{}, err
	}
	if len(document) > evidence.MaxReport {
		return evidence.Report{}, fmt.Errorf("nitro document: %d bytes, at most %d", len(document), evidence.MaxReport)
	}
	return evidence.Report{Kind: evidence.KindNitroTPM, Report: document}, nil
}

// Present asks whether a TPM has the vendor command, by sending one without the
// authorization that it takes: a TPM looks at the command's code first (TPM 2.0
// Part 3, section 5.2). It defines nothing. Errors are the transport's.
func Present(device transport.TPM) (bool, error) {
	be := binary.BigEndian
	c := be.AppendUint16(nil, uint16(tpm2.TPMSTNoSessions))
	c = be.AppendUint32(c, 10+2*4)
	c = be.AppendUint32(c, uint32(CommandNSM))
	c = be.AppendUint32(c, uint32(Index))
	c = be.AppendUint32(c, uint32(Index))
	answer, err := device.Send(c)
	if err != nil {
		return false, fmt.Errorf("asking for nitro attestation: %w", err)
	}
	if len(answer) < 10 {
		return false, fmt.Errorf("asking for nitro attestation: %w", io.ErrUnexpectedEOF)
	}
	return !errors.Is(responseCode(answer), ErrAbsent), nil
}
