package ownership

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
)

// Scheme names a token's kind, as an HTTP authentication scheme does (RFC 9110,
// section 11.1), and Header is where it stands: one of its own, so that an
// Authorization reaches the payload as it was sent.
const (
	Scheme = "Shed-Owner"
	Header = "Shed-Token"
)

// Token is the value of Header for one connection: the
// owner's signature over the machine's key and the connection's exporter. On
// any other connection, or to any other machine, it is worthless.
func Token(owner ed25519.PrivateKey, ch attest.Channel) string {
	return Scheme + " " + base64.RawURLEncoding.EncodeToString(ed25519.Sign(owner, tokenMessage(ch)))
}

// CheckToken verifies a token on the connection ch. Errors are
// attest.ErrSignature.
func CheckToken(owner ed25519.PublicKey, header string, ch attest.Channel) error {
	encoded, ok := strings.CutPrefix(header, Scheme+" ")
	if !ok || len(encoded) != base64.RawURLEncoding.EncodedLen(ed25519.SignatureSize) {
		return fmt.Errorf("%w: this is no %s token", attest.ErrSignature, Scheme)
	}
	signature, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || !ed25519.Verify(owner, tokenMessage(ch), signature) {
		return fmt.Errorf("%w: token is not the owner's for this connection", attest.ErrSignature)
	}
	return nil
}

func tokenMessage(ch attest.Channel) []byte {
	spki := attest.Sum(ch.SPKI)
	return tagged(attest.TagToken, append(spki[:], ch.Exporter[:]...))
}
