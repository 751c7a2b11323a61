package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/payload"
	"github.com/toolshed-cloud/shed/attest/release"
)

// running adds what an accepted machine runs where that is not the toolshed, by
// the release's signed manifest, and which of its two boots it shows where that
// changes one of Secure Boot's variables.
func (c claims) running(m *release.Manifest) claims {
	if c.Accepted && m != nil {
		c.Payload = m.OtherPayload()
		if c.machineClaims != nil {
			c.SecureBoot = listOf(m, c.Registers["7"])
		}
	}
	return c
}

// listOf is nil for a release that changes nothing.
func listOf(m *release.Manifest, seven attest.Digest) *listClaim {
	if m.SecureBootChange == nil {
		return nil
	}
	return &listClaim{Variable: m.SecureBootChange.Variable, Changed: m.Pending(seven) == nil}
}

// networks are the rights in words.
var networks = map[payload.Right]string{
	payload.Off:  "it reaches nobody",
	payload.Open: "it may reach anybody but the machine's own network and metadata addresses",
}

func showPayload(w io.Writer, p *payload.Spec) error {
	words := make([]string, len(p.Command))
	for i, word := range p.Command {
		words[i] = word
		// Characters that a terminal shows as others, or as none, are spelled out.
		if word == "" || strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r > '~' }) {
			words[i] = strconv.QuoteToASCII(word)
		}
	}
	reaches := networks[p.Network.Right]
	if p.Network.Right == payload.Listed {
		reaches = "it may reach " + strings.ReplaceAll(p.Network.String(), ",", ", ") + " and nobody else"
	}
	if _, err := fmt.Fprintf(w, "payload: %s, in the toolshed's place; %s\n", strings.Join(words, " "), reaches); err != nil {
		return fmt.Errorf("writing the claims: %w", err)
	}
	return nil
}
