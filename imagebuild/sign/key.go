package sign

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/toolshed-cloud/shed/attest/release"
)

// Password is asked for the password of an encrypted key.
type Password func() (string, error)

// Load opens a key: a PEM file, or a URI such as awskms:///alias/release of a
// service that the program has linked or of one of Sigstore's plugins. Errors
// match ErrKey, or say why the file or service cannot be reached.
func Load(ctx context.Context, ref string, password Password) (*Key, error) {
	if strings.Contains(ref, "://") {
		signer, err := kms.Get(ctx, ref, crypto.SHA256)
		if err != nil {
			return nil, fmt.Errorf("opening key %s: %w", ref, err)
		}
		return newKey(ctx, signer)
	}
	text, err := os.ReadFile(ref)
	if err != nil {
		return nil, fmt.Errorf("reading release key: %w", err)
	}
	private, err := cryptoutils.UnmarshalPEMToPrivateKey(text, func(bool) ([]byte, error) {
		p, err := password()
		return []byte(p), err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrKey, ref, err)
	}
	signer, err := signature.LoadSigner(private, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrKey, ref, err)
	}
	return newKey(ctx, signer)
}

// newKey refuses a key whose signatures no client would accept.
func newKey(ctx context.Context, signer signature.Signer) (*Key, error) {
	public, err := signer.PublicKey(options.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("asking for the public key: %w", err)
	}
	text, err := cryptoutils.MarshalPublicKeyToPEM(public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	checked, err := release.ParsePublicKey(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return &Key{signer: signer, public: checked, pem: text}, nil
}

// Generate makes an ECDSA P-256 key from random and writes it to the file, PEM
// without a password, and its public half to the file with .pub added. A file
// that is there already is never touched; the error then matches
// os.ErrExist.
func Generate(random io.Reader, file string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return fmt.Errorf("making release key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return fmt.Errorf("encoding release key: %w", err)
	}
	public, err := cryptoutils.MarshalPublicKeyToPEM(private.Public())
	if err != nil {
		return fmt.Errorf("encoding release key: %w", err)
	}
	if err := create(file, 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return err
	}
	if err := create(file+".pub", 0o644, public); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	return nil
}

// create writes a new file, all of it or nothing, and never an old one.
func create(name string, mode os.FileMode, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("writing release key: %w", err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("writing release key: %w", err), os.Remove(name))
	}
	return nil
}

func derOf(text []byte) []byte {
	block, _ := pem.Decode(text)
	return block.Bytes
}
