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
	key, err := loadKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = drawKey(path, random)
	}
	if err != nil {
		return tls.Certificate{}, attest.Digest{}, err
	}
	certificate, spki, err := channel.CertificateFor(random, key)
	return certificate, attest.Sum(spki), err
}

func loadKey(path string) (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the key that machines expect: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("reading the key that machines expect: %s holds no PEM", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading the key that machines expect: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("reading the key that machines expect: %s holds a %T", path, parsed)
	}
	return key, nil
}

func drawKey(path string, random io.Reader) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return nil, fmt.Errorf("drawing the key that machines expect: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the key that machines expect: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return key, statefile.Write(path, 0o600, text)
}
