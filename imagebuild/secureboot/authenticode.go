package secureboot

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"path/filepath"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/toolshed-cloud/shed/imagebuild/uki"
)

// Signer signs images.
type Signer struct {
	key         *rsa.PrivateKey
	certificate *x509.Certificate
	db          []byte
}

// ReadSigner reads db.key of a directory of keys, and the certificate that
// db.esl there accepts. Errors match ErrKeys or are the files'.
func ReadSigner(dir string) (*Signer, error) {
	keys, err := Read(dir)
	if err != nil {
		return nil, err
	}
	certificate, err := keys.Certificate()
	if err != nil {
		return nil, err
	}
	key, err := readKey(dir, imageKey, certificate)
	if err != nil {
		return nil, err
	}
	return &Signer{key: key, certificate: certificate, db: keys.DB}, nil
}

// readKey reads a private key of a directory of keys, which is to be the one that a
// certificate is of.
func readKey(dir, name string, certificate *x509.Certificate) (*rsa.PrivateKey, error) {
	text, err := readCapped(filepath.Join(dir, name+".key"))
	if err != nil {
		return nil, fmt.Errorf("reading Secure Boot's key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%w: %s.key is not PEM", ErrKeys, name)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %s.key: %w", ErrKeys, name, err)
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok || !private.PublicKey.Equal(certificate.PublicKey) {
		return nil, fmt.Errorf("%w: %s.key is not the key whose certificate %s.esl accepts", ErrKeys, name, name)
	}
	return private, nil
}

// DB is the list in which firmware has the key's certificate.
func (s *Signer) DB() []byte { return s.db }

// Object identifiers of PKCS #7 and of Authenticode.
var (
	oidSignedData      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidData            = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidContentType     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidRSA             = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidSHA256          = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidIndirectData    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
	oidProgramData     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 15}
	context0           = tags.Tag(0).ContextSpecific()
	context0Nested     = context0.Constructed()
	context2Nested     = tags.Tag(2).ContextSpecific().Constructed()
	obsoleteFileInUTF8 = "<<<Obsolete>>>"
)

// Sign returns the signature of an EFI program, DER: Authenticode's PKCS #7
// SignedData (Windows Authenticode Portable Executable Signature Format) with
// no attribute but the two that must be there, so without a time. Errors match
// uki.ErrFormat.
func (s *Signer) Sign(image []byte) ([]byte, error) {
	h := sha256.New()
	if err := uki.Authenticode(image, h); err != nil {
		return nil, fmt.Errorf("hashing the image: %w", err)
	}
	content, err := build(func(b *cryptobyte.Builder) { indirectData(b, h.Sum(nil)) })
	if err != nil {
		return nil, err
	}
	attributes, err := build(func(b *cryptobyte.Builder) { s.attributes(b, content) })
	if err != nil {
		return nil, err
	}
	// They are signed as the SET that they are, and stand in the signer's
	// information under another tag (RFC 2315, section 9.3).
	set, err := build(func(b *cryptobyte.Builder) {
		b.AddASN1(tags.SET, func(b *cryptobyte.Builder) { b.AddBytes(attributes) })
	})
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(set)
	signature, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, digest[:])
	if err != nil {
		return nil, fmt.Errorf("signing the image: %w", err)
	}
	return build(func(b *cryptobyte.Builder) { s.signedData(b, content, attributes, signature) })
}

func build(write func(*cryptobyte.Builder)) ([]byte, error) {
	var b cryptobyte.Builder
	write(&b)
	out, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encoding the signature: %w", err)
	}
	return out, nil
}

func sequence(b *cryptobyte.Builder, write func(*cryptobyte.Builder)) {
	b.AddASN1(tags.SEQUENCE, write)
}

// algorithm is an AlgorithmIdentifier without parameters but NULL.
func algorithm(b *cryptobyte.Builder, id asn1.ObjectIdentifier) {
	sequence(b, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(id)
		b.AddASN1NULL()
	})
}

// indirectData is SpcIndirectDataContent: that it is about a program, of no
// named file, and the program's digest.
func indirectData(b *cryptobyte.Builder, digest []byte) {
	sequence(b, func(b *cryptobyte.Builder) {
		sequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidProgramData)
			sequence(b, func(b *cryptobyte.Builder) {
				b.AddASN1(tags.BIT_STRING, func(b *cryptobyte.Builder) { b.AddUint8(0) })
				b.AddASN1(context0Nested, func(b *cryptobyte.Builder) {
					b.AddASN1(context2Nested, func(b *cryptobyte.Builder) {
						b.AddASN1(context0, func(b *cryptobyte.Builder) {
							for _, c := range obsoleteFileInUTF8 {
								b.AddUint16(uint16(c))
							}
						})
					})
				})
			})
		})
		sequence(b, func(b *cryptobyte.Builder) {
			algorithm(b, oidSHA256)
			b.AddASN1OctetString(digest)
		})
	})
}

// attributes are the contents of the SET of attributes that is signed, which
// DER sorts by their encoding.
func (s *Signer) attributes(b *cryptobyte.Builder, content []byte) {
	attribute := func(id asn1.ObjectIdentifier, value func(*cryptobyte.Builder)) {
		sequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(id)
			b.AddASN1(tags.SET, value)
		})
	}
	attribute(oidContentType, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidIndirectData) })
	attribute(oidMessageDigest, func(b *cryptobyte.Builder) {
		digest := sha256.Sum256(inside(content))
		b.AddASN1OctetString(digest[:])
	})
}

// inside is a DER value without its tag and length, which PKCS #7 leaves out of
// the digest.
func inside(der []byte) []byte {
	var value cryptobyte.String
	in := cryptobyte.String(der)
	if !in.ReadASN1(&value, tags.SEQUENCE) {
		return nil
	}
	return value
}

func (s *Signer) signedData(b *cryptobyte.Builder, content, attributes, signature []byte) {
	sequence(b, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidSignedData)
		b.AddASN1(context0Nested, func(b *cryptobyte.Builder) {
			sequence(b, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1(tags.SET, func(b *cryptobyte.Builder) { algorithm(b, oidSHA256) })
				sequence(b, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(oidIndirectData)
					b.AddASN1(context0Nested, func(b *cryptobyte.Builder) { b.AddBytes(content) })
				})
				b.AddASN1(context0Nested, func(b *cryptobyte.Builder) { b.AddBytes(s.certificate.Raw) })
				b.AddASN1(tags.SET, func(b *cryptobyte.Builder) { signerInfo(b, s.certificate, attributes, signature) })
			})
		})
	})
}

// signerInfo is the signature and whose it is; attributes are nil where it is of
// the content itself.
func signerInfo(b *cryptobyte.Builder, by *x509.Certificate, attributes, signature []byte) {
	sequence(b, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		sequence(b, func(b *cryptobyte.Builder) {
			b.AddBytes(by.RawIssuer)
			b.AddASN1BigInt(by.SerialNumber)
		})
		algorithm(b, oidSHA256)
		if attributes != nil {
			b.AddASN1(context0Nested, func(b *cryptobyte.Builder) { b.AddBytes(attributes) })
		}
		algorithm(b, oidRSA)
		b.AddASN1OctetString(signature)
	})
}
