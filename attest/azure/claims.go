package azure

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
)

// The ids of the TPM's keys among the claims.
const (
	akID = "HCLAkPub"
	ekID = "HCLEkPub"
)

// runtimeClaims are those that are read. Others are the paravisor's affair,
// which adds some with each of its versions.
type runtimeClaims struct {
	Keys     []jwk   `json:"keys"`
	UserData *string `json:"user-data"`
}

// jwk is a key as RFC 7517 and RFC 7518, section 6.3 have it.
type jwk struct {
	ID       string `json:"kid"`
	Type     string `json:"kty"`
	Modulus  string `json:"n"`
	Exponent string `json:"e"`
}

func (r *Report) readClaims() (err error) {
	var claims runtimeClaims
	if err := json.Unmarshal(r.Claims, &claims); err != nil {
		return malformed("has claims that do not parse: %v", err)
	}
	if len(claims.Keys) > maxKeys {
		return malformed("has %d keys among its claims, at most %d", len(claims.Keys), maxKeys)
	}
	if r.AK, err = claims.key(akID); err != nil {
		return err
	}
	if r.AK == nil {
		return malformed("has no %s among its claims", akID)
	}
	if r.EK, err = claims.key(ekID); err != nil {
		return err
	}
	return r.readUserData(claims.UserData)
}

// key is the one key of an id, nil where there is none.
func (c *runtimeClaims) key(id string) (found *rsa.PublicKey, err error) {
	for _, key := range c.Keys {
		if key.ID != id {
			continue
		}
		if found != nil {
			return nil, malformed("has more than one %s among its claims", id)
		}
		if found, err = key.rsa(); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (r *Report) readUserData(text *string) error {
	if text == nil {
		return nil
	}
	const size = 64
	b, err := hex.DecodeString(*text)
	if err != nil || len(b) != size {
		return malformed("has user-data that is not %d bytes in hex", size)
	}
	r.UserData = b
	return nil
}

func (k jwk) rsa() (*rsa.PublicKey, error) {
	const bits = 2048
	n, err := base64.RawURLEncoding.Strict().DecodeString(k.Modulus)
	modulus := new(big.Int).SetBytes(n)
	if err != nil || k.Type != "RSA" || k.Exponent != "AQAB" || len(n) != bits/8 || modulus.BitLen() != bits {
		return nil, malformed("has an %s that is not RSA-%d with exponent 65537", k.ID, bits)
	}
	return &rsa.PublicKey{N: modulus, E: 65537}, nil
}
