// Package img has images made by whoever is configured to, and keeps them by
// their content.
//
// Invariants: what is kept is an image of a known kind, whole, under the
// SHA-256 of its bytes; a request's images are kept together or not at all; a
// provider's address is followed by the client that the toolshed gives, which
// decides where it may lead.
package img

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"image"
	_ "image/gif"  // images that providers make
	_ "image/jpeg" // as above
	_ "image/png"  // as above
	"net/http"
	"time"

	_ "golang.org/x/image/webp" // as above

	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// The bounds of a request and of an image.
const (
	MaxPrompt  = 32 << 10
	MaxCount   = 8
	MaxSide    = 4096
	MaxBytes   = 24 << 20
	maxAnswer  = MaxCount * MaxBytes * 3 / 2
	defaultDim = 1024
)

// Request is what is to be made.
type Request struct {
	Model    string
	Prompt   string
	Negative string
	Width    int
	Height   int
	Count    int
	// Seed makes a result come again where the provider can; nil draws one.
	Seed *int64
}

// Made is one image as a provider answered.
type Made struct {
	Bytes []byte
	// Seed is the one that was used, nil where the provider does not say.
	Seed *int64
}

// Provider makes images.
type Provider interface {
	// Make answers as many as were asked for. Errors are an *upstream.Error, a
	// *upstream.RequestError and ctx's.
	Make(ctx context.Context, r Request) ([]Made, error)
}

// Doer sends requests where they may go.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// Hash names an image by its bytes.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseHash reads a hash in hex.
func ParseHash(text string) (h Hash, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(h) {
		return h, errors.New("it is no SHA-256 in hex")
	}
	return Hash(b), nil
}

// Image is one that is kept.
type Image struct {
	Hash      Hash
	MediaType string
	Width     int
	Height    int
	Size      int64
	Model     string
	Prompt    string
	Seed      *int64
	CreatedAt time.Time
}

// look sees that bytes are an image, and what kind. The error is an
// *upstream.Error: a provider said that they are.
func look(b []byte) (mediaType string, width, height int, err error) {
	if len(b) > MaxBytes {
		return "", 0, 0, upstream.Breaks("an image has %d bytes, at most %d are kept", len(b), MaxBytes)
	}
	c, kind, err := image.DecodeConfig(bytes.NewReader(b))
	if err != nil {
		return "", 0, 0, upstream.Breaks("what it answered is no image: %w", err)
	}
	return "image/" + kind, c.Width, c.Height, nil
}
