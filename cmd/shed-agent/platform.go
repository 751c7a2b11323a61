package main

import (
	"errors"

	"github.com/google/go-tpm/tpm2/transport"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent/boot"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/nitrotpm"
	"github.com/toolshed-cloud/shed/attest/attester/tsm"
	"github.com/toolshed-cloud/shed/attest/evidence"
)

// vouch gives a TPM's evidence what else the machine has to say of itself: the
// firmware's event log, and reports by ascending kind. A machine that cannot
// say some of it says less.
func vouch(t *attester.TPM, device transport.TPM, kernel tsm.FS, ownerAuth func() []byte, log *zap.Logger) error {
	var err error
	if t.EventLog, err = boot.EventLog(evidence.MaxEventLog); err != nil {
		log.Warn("no event log", zap.Error(err))
	}
	switch report, err := tsm.Probe(kernel, random); {
	case err == nil:
		t.Reporters = append(t.Reporters, report)
	case !errors.Is(err, tsm.ErrAbsent):
		log.Warn("no hardware report", zap.Error(err))
	}
	present, err := nitrotpm.Present(device)
	if present {
		t.Reporters = append(t.Reporters, &nitrotpm.Reporter{Device: device, Rand: random, OwnerAuth: ownerAuth})
	}
	return err
}
