package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/toolshed-cloud/shed/attest/payload"
	"github.com/toolshed-cloud/shed/attest/release"
)

// running adds what an accepted machine runs where that is not the toolshed, by
// the release's signed manifest.
func (c claims) running(m *release.Manifest) claims {
	if c.Accepted && m != nil {
		c.Payload = m.OtherPayload()
	}
	return c
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
