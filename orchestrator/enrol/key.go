package enrol

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/statefile"
)

// LoadCertificate reads the key that machines know the control plane by,
// drawing it the first time: it must stay the same as long as any machine
// lives, since its digest is in their measured configuration. Errors are the
// file's and those of random.
func LoadCertificate(path string, random io.Reader) (tls.Certificate, attest.Digest, error) {
	key, err := LoadKey(path, "the key that machines expect", random)
	if err != nil {
		return tls.Certificate{}, attest.Digest{}, err
	}
	certificate, spki, err := channel.CertificateFor(random, key)
	return certificate, attest.Sum(spki), err
}

// LoadKey reads a key of the control plane's, ECDSA P-256 in PKCS #8 PEM,
// drawing it the first time; what says what it is, for the error. Errors are
// the file's and those of random.
func LoadKey(path, what string, random io.Reader) (*ecdsa.PrivateKey, error) {
	key, err := loadKey(path, what)
	if errors.Is(err, fs.ErrNotExist) {
		return drawKey(path, what, random)
	}
	return key, err
}

func loadKey(path, what string) (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("reading %s: %s holds no PEM", what, path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("reading %s: %s holds a %T", what, path, parsed)
	}
	return key, nil
}

func drawKey(path, what string, random io.Reader) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return nil, fmt.Errorf("drawing %s: %w", what, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", what, err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return key, statefile.Write(path, 0o600, text)
}
