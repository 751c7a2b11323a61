package attest

import (
	"crypto/hmac"
	"crypto/sha256"
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
	TagRoot   = "shed/root/1"
	TagClaim  = "shed/claim/1"
	TagToken  = "shed/token/1"
	TagConfig = "shed/config/1"
	TagAnswer = "shed/activation/1"
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
	b := make([]byte, 0, 1+2*sha256.Size)
	b = append(b, 0x01)
	b = append(b, left[:]...)
	b = append(b, right[:]...)
	return Sum(b)
}

// QuoteData is what the TPM signs as extraData for a tree of count leaves:
// H(tag ‖ count as a big-endian uint32 ‖ root).
func QuoteData(count uint32, root Digest) Digest {
	b := append([]byte(TagRoot), 0, 0, 0, 0)
	binary.BigEndian.PutUint32(b[len(TagRoot):], count)
	return Sum(append(b, root[:]...))
}
