// Package sign signs a release's manifest in Sigstore's bundle format, with a
// key in a file or in a key management service.
//
// Invariants: nothing is written unless the verifier that clients use accepts
// it; a private key leaves this process only into the file that was asked for,
// which is never overwritten; signing needs no network but the key's own.
// Why a key and no certificate, log or clock: docs/decisions/0012.
package sign

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	bundlepb "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rootpb "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/imagebuild"
)

// The names of what Release writes beside the manifest.
const (
	BundleName      = imagebuild.BundleName
	EntryName       = imagebuild.EntryName
	TrustedRootName = imagebuild.TrustedRootName
)

// trustedRootType is the media type of Sigstore's trusted root.
const trustedRootType = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"

// ErrKey says that a key cannot sign a release.
var ErrKey = errors.New("unusable release key")

// Key signs releases.
type Key struct {
	signer signature.Signer
	public crypto.PublicKey
	pem    []byte
}

// Public returns the key that verifies what k signs, PEM.
func (k *Key) Public() []byte { return bytes.Clone(k.pem) }

// Release signs the manifest in dir and writes the bundle, the release's entry
// for the transparency log, and a trusted root beside it. The trusted root is empty: it tells cosign that no authority but
// the key is asked.
func Release(ctx context.Context, dir string, key *Key) (attest.ReleaseDigest, error) {
	manifest, err := os.ReadFile(filepath.Join(dir, imagebuild.ManifestName))
	if err != nil {
		return attest.ReleaseDigest{}, fmt.Errorf("reading manifest: %w", err)
	}
	unsigned, err := release.ParseManifest(manifest)
	if err == nil {
		err = imagebuild.CheckSigned(unsigned)
	}
	if err != nil {
		return attest.ReleaseDigest{}, err
	}
	bundle, err := key.Bundle(ctx, manifest)
	if err != nil {
		return attest.ReleaseDigest{}, err
	}
	m, digest, err := release.Verify(manifest, bundle, key.public)
	if err != nil {
		return attest.ReleaseDigest{}, fmt.Errorf("checking the signature just made: %w", err)
	}
	entry, err := key.entry(ctx, manifest, m, digest)
	if err != nil {
		return attest.ReleaseDigest{}, err
	}
	root, err := TrustedRoot()
	if err != nil {
		return attest.ReleaseDigest{}, err
	}
	if err := statefile.Write(filepath.Join(dir, TrustedRootName), 0o644, root); err != nil {
		return attest.ReleaseDigest{}, err
	}
	if err := statefile.Write(filepath.Join(dir, EntryName), 0o644, entry); err != nil {
		return attest.ReleaseDigest{}, err
	}
	return digest, statefile.Write(filepath.Join(dir, BundleName), 0o644, bundle)
}

// TrustedRoot is what stands beside every release: it names no authority.
func TrustedRoot() ([]byte, error) { return encode(&rootpb.TrustedRoot{MediaType: trustedRootType}) }

// DER is the public key as log entries name it, a SubjectPublicKeyInfo.
func (k *Key) DER() []byte { return derOf(k.pem) }

// Entry signs a statement for the transparency log. Errors are the key's and
// attest.ErrMalformed.
func (k *Key) Entry(ctx context.Context, body logentry.Body) ([]byte, error) {
	e, err := logentry.Sign(body, k.DER(), func(message []byte) ([]byte, error) {
		return k.signer.SignMessage(bytes.NewReader(message), options.WithContext(ctx))
	})
	if err != nil {
		return nil, err
	}
	return e.Encode()
}

// entry signs what the transparency log is to say of the release.
func (k *Key) entry(ctx context.Context, manifest []byte, m *release.Manifest, digest attest.ReleaseDigest) ([]byte, error) {
	statement := release.EntryOf(m, digest)
	b, err := k.Entry(ctx, logentry.Body{Kind: logentry.KindRelease, Release: &statement})
	if err != nil {
		return nil, err
	}
	if err := release.SignedBy(b, manifest, k.public); err != nil {
		return nil, fmt.Errorf("checking the log entry just made: %w", err)
	}
	return b, nil
}

// Bundle signs message and returns the bundle, JSON.
func (k *Key) Bundle(ctx context.Context, message []byte) ([]byte, error) {
	sig, err := k.signer.SignMessage(bytes.NewReader(message), options.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("signing manifest: %w", err)
	}
	digest := attest.Sum(message)
	return encode(&bundlepb.Bundle{
		MediaType: release.BundleMediaType,
		VerificationMaterial: &bundlepb.VerificationMaterial{
			Content: &bundlepb.VerificationMaterial_PublicKey{
				PublicKey: &commonpb.PublicKeyIdentifier{Hint: k.hint()},
			},
		},
		Content: &bundlepb.Bundle_MessageSignature{
			MessageSignature: &commonpb.MessageSignature{
				MessageDigest: &commonpb.HashOutput{Algorithm: commonpb.HashAlgorithm_SHA2_256, Digest: digest[:]},
				Signature:     sig,
			},
		},
	})
}

// hint is Sigstore's usual one: the SHA-256 of the public key's DER.
func (k *Key) hint() string {
	digest := attest.Sum(derOf(k.pem))
	return base64.StdEncoding.EncodeToString(digest[:])
}

// encode writes a message as JSON with fixed white space: protojson varies its
// own on purpose.
func encode(m proto.Message) ([]byte, error) {
	loose, err := protojson.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding %T: %w", m, err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, loose, "", "  "); err != nil {
		return nil, fmt.Errorf("encoding %T: %w", m, err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
