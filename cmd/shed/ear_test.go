package main

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/ear"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// What --ear prints is the owner's client's word, by a key that stays.
func TestShowEAR(t *testing.T) {
	c := &relyingParty{state: client.ClientState{Dir: t.TempDir()}}
	c.trust.Rand, c.trust.Now = rand.Reader, time.Now
	result := attest.AttestationResult{Status: attest.Contraindicated, Findings: []attest.Finding{
		{Dimension: attest.Executables, Verdict: attest.Contraindicated, Reason: "pcr4 differs"},
	}}
	of := &verifier.Verified{AK: []byte{0, 11, 1}, EK: attest.Digest{2}}
	for range 2 {
		cmd, out := new(cobra.Command), new(bytes.Buffer)
		registerEAR(cmd.Flags())
		cmd.Flags().Bool("json", false, "")
		cmd.SetOut(out)
		if err := cmd.Flags().Set("ear", "true"); err != nil {
			t.Fatal(err)
		}
		if err := c.show(cmd, claims{AttestationResult: result}, of); err != nil {
			t.Fatal(err)
		}
		key, err := c.state.ResultKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		claims, err := ear.Verify(strings.TrimSpace(out.String()), key.Public(), ear.OwnerClient)
		if err != nil {
			t.Fatal(err)
		}
		machine := claims.Submods.Machine
		if claims.Status != "contraindicated" || machine.Shed.AK != "000b01" || machine.Shed.EK != of.EK || machine.Shed.Accepted {
			t.Errorf("claims %+v", claims)
		}
	}
	if info, err := os.Stat(filepath.Join(c.state.Dir, "ear.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
}
