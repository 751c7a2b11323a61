package attest

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"
)

// Role says which side of a connection the evidence is about, so that evidence
// made as one can never be reflected as the other.
type Role uint8

// The roles. Zero is refused.
const (
	// RoleServe is a machine that answers its owner as TLS server.
	RoleServe Role = 1
	// RoleEnrol is a machine that enrols at a control plane as TLS client.
	RoleEnrol Role = 2
)

// Channel is one live TLS 1.3 connection as either end derives it for itself.
type Channel struct {
	Role Role
	// SPKI is the machine's SubjectPublicKeyInfo, DER, as it was used on the
	// connection.
	SPKI []byte
	// Exporter is 32 bytes of keying material with the label and the empty
	// context of RFC 9266 (tls-exporter).
	Exporter [32]byte
}

// ExporterLabel is the label of RFC 9266, section 2.
const ExporterLabel = "EXPORTER-Channel-Binding"

// The domain tags: each hash or signature of ours begins with one, so that no
// output of one can stand for another.
const (
	TagLeaf   = "shed/leaf/1"
	TagRoot   = "shed/root/2"
	TagReport = "shed/report/1"
	TagClaim  = "shed/claim/1"
	// TagApproval is of the owner's consent to an update.
	TagApproval = "shed/approval/1"
	TagToken    = "shed/token/1"
	TagConfig   = "shed/config/1"
	TagAnswer   = "shed/activation/1"
)

// Leaf is what a quote answers: H(0x00 ‖ tag ‖ role, nonce, SPKI, exporter,
// configuration digest, claim digest), each length-prefixed as a big-endian
// uint32. claim is zero on an unclaimed machine.
func (c Channel) Leaf(nonce Nonce, config, claim Digest) Digest {
	h := sha256.New()
	h.Write([]byte{0x00})
	writePrefixed(h, []byte(TagLeaf), []byte{byte(c.Role)}, nonce[:], c.SPKI, c.Exporter[:], config[:], claim[:])
	return Digest(h.Sum(nil))
}

// ActivationAnswer is what a machine answers to a credential whose secret its
// TPM opened: HMAC-SHA256(secret, tag ‖ role, attestation key's name, SPKI,
// exporter), each length-prefixed as a big-endian uint32. The secret itself
// never leaves the machine: whoever relays the credential to a machine gets an
// answer that is good on their own connection to it and on no other.
func (c Channel) ActivationAnswer(secret, akName []byte) Digest {
	h := hmac.New(sha256.New, secret)
	writePrefixed(h, []byte(TagAnswer), []byte{byte(c.Role)}, akName, c.SPKI, c.Exporter[:])
	return Digest(h.Sum(nil))
}

// writePrefixed hashes fields so that no two lists of them hash alike.
func writePrefixed(h hash.Hash, fields ...[]byte) {
	for _, field := range fields {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(field)))
		h.Write(n[:])
		h.Write(field)
	}
}

// Node joins two hashes of the batch tree: H(0x01 ‖ left ‖ right).
func Node(left, right Digest) Digest {
	var b [1 + 2*sha256.Size]byte
	b[0] = 0x01
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return Sum(b[:])
}

// QuoteData is what the TPM signs as extraData for a tree of count leaves:
// H(tag ‖ count as a big-endian uint32 ‖ root ‖ reports), where reports is
// ReportsDigest of the hardware reports beside the quote. The TPM so names the
// report, as the report names the TPM's key: neither can be exchanged alone.
func QuoteData(count uint32, root, reports Digest) Digest {
	b := make([]byte, 0, len(TagRoot)+4+2*sha256.Size)
	b = binary.BigEndian.AppendUint32(append(b, TagRoot...), count)
	b = append(b, root[:]...)
	return Sum(append(b, reports[:]...))
}

// ReportData is what a hardware report carries as the guest's own 64 bytes for
// a quote by the key of this TPM name over a tree of count leaves:
// SHA-512 of tag, name, count as a big-endian uint32 and root, each
// length-prefixed as a big-endian uint32. It names the attestation key and a
// root that is as fresh as its leaves.
func ReportData(akName []byte, count uint32, root Digest) [sha512.Size]byte {
	h := sha512.New()
	writePrefixed(h, []byte(TagReport), akName, binary.BigEndian.AppendUint32(nil, count), root[:])
	return [sha512.Size]byte(h.Sum(nil))
}

// ReportsDigest is the digest of the reports beside a quote, in their order in
// the evidence: H(kind, report, …), each length-prefixed as a big-endian
// uint32; zero where there are none.
func ReportsDigest(kindsAndReports ...[]byte) Digest {
	if len(kindsAndReports) == 0 {
		return Digest{}
	}
	h := sha256.New()
	writePrefixed(h, []byte(TagReport))
	writePrefixed(h, kindsAndReports...)
	return Digest(h.Sum(nil))
}
