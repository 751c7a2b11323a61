// Package nitrotest draws a root of its own with everything below it that AWS
// has, and signs NitroTPM documents laid out as real ones. All of it is
// synthetic: no document of a real NitroTPM is public.
//
// Invariants: nothing that ships imports it; each key lives in the test that
// drew it alone; what is signed is what the test set.
package nitrotest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"slices"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/nitro"
)

// Machine is an instance with a NitroTPM.
type Machine struct {
	tb       testing.TB
	root, ca *chaintest.Authority
	key      *ecdsa.PrivateKey
	// Signer is the certificate that its documents come with.
	Signer *x509.Certificate
	// Registers are what its documents say; they may be set.
	Registers map[uint8]nitro.Register
}

// Draw draws a machine whose registers are its numbers. edit changes the
// signer's certificate and may be nil.
func Draw(tb testing.TB, edit func(*x509.Certificate)) *Machine {
	tb.Helper()
	m := &Machine{tb: tb, key: chaintest.P384(tb), Registers: map[uint8]nitro.Register{}}
	m.root = chaintest.Root(tb, "aws.nitro-enclaves", chaintest.P384(tb), nil)
	m.ca = m.root.Authority("zonal.aws.nitro-enclaves", chaintest.P384(tb), nil)
	m.Signer = m.ca.Leaf("i-0123456789abcdef0-tpm", m.key.Public(), edit)
	for i := range uint8(nitro.Registers) {
		m.Registers[i] = nitro.Register{i}
	}
	return m
}

// Terms are the machine's root, no lists, and the time at which all drawn is
// valid.
func (m *Machine) Terms() nitro.Terms {
	return nitro.Terms{
		Roots:       []*x509.Certificate{m.root.Certificate},
		Revocations: chain.Revocations{Treatment: chain.NotPublished}, At: chaintest.Now,
	}
}

// Revoked is a list of the authority's that names the signer.
func (m *Machine) Revoked() *chain.List { return m.ca.Parsed(nil, m.Signer) }

// Draft is a document before it is signed: its fields by name, as the wire has
// them. Protected is the signed header, Prefix what stands before the document
// and Indefinite has the map written as AWS's newer signers do.
type Draft struct {
	Fields            map[string]any
	Protected, Prefix []byte
	Indefinite        bool
	Key               *ecdsa.PrivateKey
	// Signature stands in the place of Key's, where it is not nil.
	Signature []byte
}

// Document signs a document. edit may be nil; it sees the draft with all of it
// set.
func (m *Machine) Document(nonce, userData, publicKey []byte, edit func(*Draft)) []byte {
	m.tb.Helper()
	values := map[uint8][]byte{}
	for i, r := range m.Registers {
		values[i] = r[:]
	}
	d := &Draft{Protected: []byte{0xa1, 0x01, 0x38, 0x22}, Key: m.key, Fields: map[string]any{
		"module_id": "i-0123456789abcdef0-tpm0123456789abcdef", "timestamp": chaintest.Now.UnixMilli(), "digest": "SHA384",
		"nitrotpm_pcrs": values, "certificate": m.Signer.Raw, "cabundle": [][]byte{m.root.Certificate.Raw, m.ca.Certificate.Raw},
		"public_key": publicKey, "user_data": userData, "nonce": nonce,
	}}
	if edit != nil {
		edit(d)
	}
	return m.sign(d)
}

func (m *Machine) sign(d *Draft) []byte {
	m.tb.Helper()
	payload := m.encode(d.Fields)
	if d.Indefinite {
		// The same entries between the marks of an open map.
		payload = slices.Concat([]byte{0xbf}, payload[1:], []byte{0xff})
	}
	digest := sha512.Sum384(m.encode([]any{"Signature1", d.Protected, []byte{}, payload}))
	r, s, err := ecdsa.Sign(rand.Reader, d.Key, digest[:])
	if err != nil {
		m.tb.Fatal(err)
	}
	signature := slices.Concat(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48)))
	if d.Signature != nil {
		signature = d.Signature
	}
	return append(d.Prefix, m.encode([]any{d.Protected, map[int]int{}, payload, signature})...)
}

func (m *Machine) encode(v any) []byte {
	m.tb.Helper()
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		m.tb.Fatal(err)
	}
	b, err := mode.Marshal(v)
	if err != nil {
		m.tb.Fatal(err)
	}
	return b
}
