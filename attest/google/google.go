// Package google knows the authority that certifies the keys of the virtual
// TPMs of Google Compute Engine, and reads which instance a certificate is of.
//
// Invariants: what is read here decides nothing: package tpm says whether a
// certificate is of a key, package chain whether an authority issued it. An
// instance is read whole or refused with the field that is wrong. Tried on
// public certificates, not live.
package google

import (
	"crypto/x509"
	_ "embed" // the root is a file of its own, as Google publishes it
	"encoding/asn1"
	"fmt"
	"math/big"
	"strings"
	"sync"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
)

// googlePEM is Google's two roots as google/go-tpm-tools, server/ca-certs has
// them: "EK/AK CA Root" of 2022, at
// http://privateca-content-62d71773-0000-21da-852e-f4f5e80d7778.storage.googleapis.com/032bf9d39db4fa06aade/ca.crt,
// SHA-256 594759594b9b61524f6c8ef668f7177f7b9066bc0674f2f49fe9e052be78beb2, and
// "tpm_ek_v1_cloud_host_root" of 2018, which certified before, SHA-256
// 9bd5285f8fb18502a7947e621ffd470266f49fcd3b73e19a190f690ad32a7caf.
//
//go:embed google.pem
var googlePEM []byte

var roots = sync.OnceValue(func() []*x509.Certificate {
	all, err := chain.ParseAll("google's roots", googlePEM)
	if err != nil {
		// It is a constant: a test shows that it parses.
		panic(err)
	}
	return all
})

// Roots are the roots that Google certifies endorsement and attestation keys
// under: two, valid until July 2122 and April 2118.
func Roots() []*x509.Certificate { return append([]*x509.Certificate(nil), roots()...) }

// OID is the extension that says which instance a certificate's TPM is of.
var OID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 1, 21}

// Instance is a machine as Google's certificates name it.
type Instance struct {
	Zone          string
	ProjectNumber uint64
	ProjectID     string
	ID            uint64
	Name          string
	// Production is what Google says of the machine's TPM; true where it says
	// nothing.
	Production bool
}

func (i Instance) String() string {
	text := fmt.Sprintf("instance %s (%d) of project %s (%d) in %s", i.Name, i.ID, i.ProjectID, i.ProjectNumber, i.Zone)
	if !i.Production {
		text += ", not a production machine"
	}
	return text
}

// instanceInfo is the extension's content; more may follow in each of its
// parts.
type instanceInfo struct {
	Zone          string `asn1:"utf8"`
	ProjectNumber *big.Int
	ProjectID     string `asn1:"utf8"`
	InstanceID    *big.Int
	InstanceName  string        `asn1:"utf8"`
	Security      asn1.RawValue `asn1:"optional,tag:0"`
}

type securityProperties struct {
	Version    int64 `asn1:"optional,explicit,tag:0"`
	Production bool  `asn1:"optional,explicit,tag:1"`
}

// The caps, in bytes.
const (
	maxInstance = 1 << 10
	maxName     = 128
)

// ParseInstance reads the extension's value. The error is attest.ErrMalformed.
func ParseInstance(der []byte) (*Instance, error) {
	if len(der) > maxInstance {
		return nil, malformed("has %d bytes, at most %d", len(der), maxInstance)
	}
	var info instanceInfo
	if rest, err := asn1.Unmarshal(der, &info); err != nil || len(rest) > 0 {
		return nil, malformed("does not parse: %v, %d bytes behind it", err, len(rest))
	}
	i := &Instance{Zone: info.Zone, ProjectID: info.ProjectID, Name: info.InstanceName, Production: true}
	for _, text := range []struct{ name, value string }{{"zone", i.Zone}, {"project id", i.ProjectID}, {"instance name", i.Name}} {
		if !plain(text.value) {
			return nil, malformed("has a %s that is not 1 to %d plain characters", text.name, maxName)
		}
	}
	for _, number := range []struct {
		name string
		read *big.Int
		into *uint64
	}{{"project number", info.ProjectNumber, &i.ProjectNumber}, {"instance id", info.InstanceID, &i.ID}} {
		if !number.read.IsUint64() {
			return nil, malformed("has a %s that is negative or too large", number.name)
		}
		*number.into = number.read.Uint64()
	}
	if err := i.readSecurity(info.Security); err != nil {
		return nil, err
	}
	return i, nil
}

func (i *Instance) readSecurity(raw asn1.RawValue) error {
	if len(raw.FullBytes) == 0 {
		return nil
	}
	var s securityProperties
	if rest, err := asn1.Unmarshal(raw.Bytes, &s); err != nil || len(rest) > 0 {
		return malformed("has security properties that do not parse: %v", err)
	}
	i.Production = s.Production
	return nil
}

func plain(text string) bool {
	return len(text) > 0 && len(text) <= maxName && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: google's instance info %s", attest.ErrMalformed, fmt.Sprintf(format, args...))
}
