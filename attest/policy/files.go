package policy

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"strings"

	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/nitro"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/tdx"
)

// content is PEM that stands in the policy itself, or what is in the file of
// that name.
func (v value) content() []byte {
	text := v.text()
	if v.f.err != nil {
		return nil
	}
	if strings.HasPrefix(strings.TrimSpace(text), "-----BEGIN") {
		return []byte(text)
	}
	return v.opened(text)
}

func (v value) opened(name string) []byte {
	b, err := v.f.open(name)
	if err == nil && len(b) > MaxFile {
		v.fail("names %s, which has %d bytes, at most %d", name, len(b), MaxFile)
		return nil
	}
	if err != nil {
		v.failing(err)
		return nil
	}
	return b
}

// failing passes an error on, with its kind.
func (v value) failing(err error) { v.f.failing(v.line, v.path, err) }

// certificates are those of one PEM text or file.
func (v value) certificates() []*x509.Certificate {
	b := v.content()
	if v.f.err != nil {
		return nil
	}
	all, err := chain.ParseAll(v.path, b)
	if err != nil {
		v.failing(err)
	}
	return all
}

func (v value) releaseKeys() (keys []crypto.PublicKey) {
	for _, entry := range v.list(1, MaxReleaseKeys) {
		b := entry.content()
		if v.f.err != nil {
			return nil
		}
		key, err := release.ParsePublicKey(b)
		if err != nil {
			entry.failing(err)
			return nil
		}
		keys = append(keys, key)
	}
	return keys
}

// revocationLists are files, each one list in DER or PEM, beside those that
// come with evidence.
func (v value) revocationLists() (lists []*chain.List) {
	for _, entry := range v.list(0, chain.MaxLists) {
		b := entry.content()
		if v.f.err != nil {
			return nil
		}
		if block, rest := pem.Decode(b); block != nil && len(bytes.TrimSpace(rest)) == 0 {
			b = block.Bytes
		}
		list, err := chain.ParseList(entry.path, b)
		if err != nil {
			entry.failing(err)
			return nil
		}
		lists = append(lists, list)
	}
	return lists
}

// builtin is the word for the roots that come with the program.
const builtin = "builtin"

var (
	awsRoots   = nitro.AWSRoots
	intelRoots = tdx.IntelRoots
)

// builtinOr are the roots that come with the program, or those of files.
func (v value) builtinOr(roots func() []*x509.Certificate) (all []*x509.Certificate) {
	if v.is(builtin) {
		return roots()
	}
	for _, entry := range v.list(1, maxRoots) {
		all = append(all, entry.certificates()...)
	}
	return all
}
