package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"io"
	"strings"
)

// A token reads shed_ID_SECRET: the id is shown and looked up by, the secret is
// what the digest is for.
const (
	tokenPrefix = "shed_"
	idBytes     = 16
	secretBytes = 32
)

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// digest is all that is kept of a token.
type digest [sha256.Size]byte

func newToken(random io.Reader) (token, id string, d digest, err error) {
	var b [idBytes + secretBytes]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", "", d, fmt.Errorf("drawing a token: %w", err)
	}
	id = encoding.EncodeToString(b[:idBytes])
	token = tokenPrefix + id + "_" + encoding.EncodeToString(b[idBytes:])
	return token, id, sha256.Sum256([]byte(token)), nil
}

// idOf is the id in what has the form of a token.
func idOf(token string) (id string, ok bool) {
	rest, ok := strings.CutPrefix(token, tokenPrefix)
	id, secret, cut := strings.Cut(rest, "_")
	return id, ok && cut && len(id) == encoding.EncodedLen(idBytes) && len(secret) == encoding.EncodedLen(secretBytes)
}

func (d digest) is(token string) bool {
	other := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(d[:], other[:]) == 1
}
