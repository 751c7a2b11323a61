// Package channel binds evidence to one TLS 1.3 connection, on the machine's
// side and on the client's.
//
// Invariants: TLS 1.3 only, no session tickets, no resumption, HTTP/1.1, one
// request after another on one connection that is never exchanged for another;
// each end derives the channel from its own state and takes nothing from the
// other's word.
package channel

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/toolshed-cloud/shed/attest"
)

// The machine's endpoints, on its one port.
const (
	// EvidencePath answers GET with ?nonce= 64 hex digits: the evidence.
	EvidencePath = "/.well-known/attestation"
	// ActivationPath takes a POST of an ActivationRequest and answers with
	// attest.Channel.ActivationAnswer.
	ActivationPath = "/.well-known/attestation/activation"
	// ClaimPath answers GET with a nonce for a claim on this connection and
	// takes a POST of the signed claim.
	ClaimPath = "/claim"
	// ClaimDocumentPath answers the owner's GET with the claim in force, the
	// whole of it: evidence carries its digest alone.
	ClaimDocumentPath = "/claim/document"
	// RecoveryPath answers GET with a Left where the data disk holds a volume,
	// the owner alone on a machine that has one, and takes a POST of a Recovery
	// where that volume is not open.
	RecoveryPath = "/claim/recovery"
	// UpdatePath answers the owner's GET with an Update and takes the owner's POST
	// of an encoded ownership.Approval.
	UpdatePath = "/claim/update"
	// OutputPath answers the owner's GET with the latest of what the payload
	// printed, and nobody else's.
	OutputPath = "/.well-known/attestation/output"
)

// ContentType is that of every body on these endpoints.
const ContentType = "application/cbor"

// MaxRequestBytes caps a request body on these endpoints, MaxOutputBytes what a
// machine keeps of its payload's output.
const (
	MaxRequestBytes = 8 << 10
	MaxOutputBytes  = 64 << 10
)

// ActivationRequest asks the machine to open a credential; its fields are
// those of tpm.Challenge.
type ActivationRequest struct {
	CredentialBlob  []byte `cbor:"1,keyasint"`
	EncryptedSecret []byte `cbor:"2,keyasint"`
}

// Left is the volume on a machine's data disk. Who opens Wrapped with the claim's
// recovery key and the context of the other two has the volume's key; where it is
// not vouched for, that is a key which whoever wrote the disk may know.
type Left struct {
	Claim   attest.Digest `cbor:"1,keyasint"`
	Volume  [16]byte      `cbor:"2,keyasint"`
	Wrapped []byte        `cbor:"3,keyasint"`
	// Vouched says that the machine has made or opened this volume itself since
	// it booted, so that it does not repeat what its host put on the disk.
	Vouched bool `cbor:"4,keyasint,omitempty"`
}

// Recovery hands a machine the key of the volume on its disk, and with it the
// signed claim that makes the machine the owner's, where it has no owner yet.
type Recovery struct {
	Claim  []byte   `cbor:"1,keyasint"`
	Volume [16]byte `cbor:"2,keyasint"`
	Key    []byte   `cbor:"3,keyasint"`
}

// MaxUpdateBytes caps an encoded Update.
const MaxUpdateBytes = 512 << 10

// Update is what a machine says to its owner of the release that it was offered
// last, and of the step it has come to. Who approves it looks at the manifest and
// what vouches for it, and takes From from evidence instead.
type Update struct {
	// Step and Reason are agent/api's UpdateStep and UpdateReason; an empty step
	// is no offer, and nothing but Number is there then.
	Step   string `cbor:"1,keyasint"`
	Reason string `cbor:"2,keyasint,omitempty"`
	// Release is the digest of Manifest; Bundle and Proof are as evidence has them.
	Release  attest.ReleaseDigest `cbor:"3,keyasint"`
	Manifest []byte               `cbor:"4,keyasint,omitempty"`
	Bundle   []byte               `cbor:"5,keyasint,omitempty"`
	Proof    []byte               `cbor:"6,keyasint,omitempty"`
	// Number is that of the machine's next update, which an approval names.
	Number uint64 `cbor:"7,keyasint"`
}

// FromState derives the channel from one end's own state of a connection on
// which the machine used the key machineSPKI (a DER SubjectPublicKeyInfo).
// Errors are attest.ErrBinding.
func FromState(state tls.ConnectionState, role attest.Role, machineSPKI []byte) (attest.Channel, error) {
	switch {
	case !state.HandshakeComplete:
		return attest.Channel{}, fmt.Errorf("%w: the handshake is not complete", attest.ErrBinding)
	case state.Version != tls.VersionTLS13:
		return attest.Channel{}, fmt.Errorf("%w: tls version %#x, want 1.3", attest.ErrBinding, state.Version)
	case state.DidResume:
		return attest.Channel{}, fmt.Errorf("%w: the session was resumed", attest.ErrBinding)
	case len(machineSPKI) == 0:
		return attest.Channel{}, fmt.Errorf("%w: the machine showed no key", attest.ErrBinding)
	}
	// RFC 9266, section 2: the context is empty, not absent.
	material, err := state.ExportKeyingMaterial(attest.ExporterLabel, []byte{}, 32)
	if err != nil {
		return attest.Channel{}, fmt.Errorf("%w: exporting keying material: %w", attest.ErrBinding, err)
	}
	return attest.Channel{Role: role, SPKI: machineSPKI, Exporter: [32]byte(material)}, nil
}

// ServerConfig is the machine's side. The certificate authenticates nothing by
// itself: the evidence does.
func ServerConfig(certificate tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{certificate},
		SessionTicketsDisabled: true,
		NextProtos:             []string{"http/1.1"},
	}
}

// ClientConfigTrustingEvidenceAlone skips every check of the certificate: use
// it only where evidence or a pinned key is verified on the same connection.
func ClientConfigTrustingEvidenceAlone() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		InsecureSkipVerify:     true, //nolint:gosec // the evidence names the key
		SessionTicketsDisabled: true,
		NextProtos:             []string{"http/1.1"},
	}
}

// PeerSPKI is the DER SubjectPublicKeyInfo of the peer's certificate. The
// error is attest.ErrBinding where there is none.
func PeerSPKI(state tls.ConnectionState) ([]byte, error) {
	if len(state.PeerCertificates) == 0 {
		return nil, fmt.Errorf("%w: the peer showed no certificate", attest.ErrBinding)
	}
	return state.PeerCertificates[0].RawSubjectPublicKeyInfo, nil
}

// PinSPKI makes a tls.Config.VerifyConnection that accepts only the key whose
// SubjectPublicKeyInfo has this SHA-256.
func PinSPKI(want attest.Digest) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		spki, err := PeerSPKI(state)
		if err != nil {
			return err
		}
		if attest.Sum(spki) != want {
			return fmt.Errorf("%w: the peer's key is not the pinned one", attest.ErrBinding)
		}
		return nil
	}
}

// NewCertificate draws a P-256 key and wraps it in a certificate for all of
// time, whose name is the same on every machine: only its key is ever looked
// at. It also returns the key's DER SubjectPublicKeyInfo. Errors are those of
// rand.
func NewCertificate(rand io.Reader) (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("drawing a tls key: %w", err)
	}
	return CertificateFor(rand, key)
}

// CertificateFor wraps a key as NewCertificate does. Errors are those of rand.
func CertificateFor(rand io.Reader, key *ecdsa.PrivateKey) (tls.Certificate, []byte, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "shed"},
		NotBefore:    time.Unix(0, 0),
		// RFC 5280, section 4.1.2.5: no well-defined expiration date.
		NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("wrapping a tls key: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("wrapping a tls key: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, spki, nil
}
