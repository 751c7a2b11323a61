package main

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2/transport"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/nitrotpm/nitrotpmtest"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/attester/tsm"
	"github.com/toolshed-cloud/shed/attest/attester/tsm/tsmtest"
	"github.com/toolshed-cloud/shed/attest/evidence"
)

// A machine reports what it has, in the order that evidence wants, and nothing
// of what it lacks or what fails.
func TestWhatAMachineReports(t *testing.T) {
	report := func(in [64]byte) ([]byte, []byte, error) { return append([]byte("report "), in[:]...), nil, nil }
	failing := func([64]byte) ([]byte, []byte, error) { return nil, nil, errors.New("no report") }
	software := func(t *testing.T) transport.TPM { return swtpmtest.Start(t) }
	nitro := func(t *testing.T) transport.TPM { return nitrotpmtest.Wrap(t, swtpmtest.Start(t)) }
	for name, c := range map[string]struct {
		kernel *tsmtest.Kernel
		device func(*testing.T) transport.TPM
		want   []string
	}{
		"nothing beside the tpm": {new(tsmtest.Kernel), software, nil},
		"snp":                    {&tsmtest.Kernel{Provider: tsm.SNP, Sign: report}, software, []string{"*tsm.Reporter"}},
		"tdx that fails":         {&tsmtest.Kernel{Provider: tsm.TDX, Sign: failing}, software, nil},
		"nitrotpm":               {new(tsmtest.Kernel), nitro, []string{"*nitrotpm.Reporter"}},
		"snp and nitrotpm":       {&tsmtest.Kernel{Provider: tsm.SNP, Sign: report}, nitro, []string{"*tsm.Reporter", "*nitrotpm.Reporter"}},
	} {
		t.Run(name, func(t *testing.T) {
			device := c.device(t)
			tpm, err := attester.Open(device)
			if err != nil {
				t.Fatal(err)
			}
			if err := vouch(tpm, device, c.kernel, func() []byte { return nil }, zap.NewNop()); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range tpm.Reporters {
				got = append(got, fmt.Sprintf("%T", r))
			}
			if !slices.Equal(got, c.want) || c.kernel.Entries() != 0 {
				t.Errorf("reporters %v, want %v; %d entries left", got, c.want, c.kernel.Entries())
			}
		})
	}
}

// What the kernel reports is in the evidence that the agent makes.
func TestReportIsInTheEvidence(t *testing.T) {
	device := swtpmtest.Start(t)
	tpm, err := attester.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	kernel := &tsmtest.Kernel{Provider: tsm.TDX, Sign: func(in [64]byte) ([]byte, []byte, error) { return in[:], nil, nil }}
	if err := vouch(tpm, device, kernel, nil, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	channel, nonce := attest.Channel{Role: attest.RoleServe, SPKI: []byte("key")}, attest.Nonce{1}
	b, err := tpm.Evidence(attester.Subject{Channel: channel, Nonce: nonce})
	if err != nil {
		t.Fatal(err)
	}
	e, err := evidence.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	root, err := e.Batch.Root(channel.Leaf(nonce, e.Config, e.Claim))
	if err != nil {
		t.Fatal(err)
	}
	want := attest.ReportData(tpm.AKName(), e.Batch.Count, root)
	if len(e.Reports) != 1 || e.Reports[0].Kind != evidence.KindTDX || [64]byte(e.Reports[0].Report) != want {
		t.Errorf("reports %+v, want one of %x", e.Reports, want)
	}
}
