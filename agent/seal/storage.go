package seal

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// handleSRK is where the storage root key is kept, beside attester.AKHandle.
// It is not where others keep theirs (0x81000001), which is for them to evict.
const handleSRK = attester.AKHandle + 1

// loadSRK is the storage root key (TCG TPM v2.0 Provisioning Guidance, section
// 7.5.1) where keepKeys has put it.
func loadSRK(device transport.TPM) (attester.Key, error) {
	srk, err := attester.KeptKey(device, handleSRK, tpm2.ECCSRKTemplate)
	if err != nil {
		return attester.Key{}, fmt.Errorf("storage key: %w", err)
	}
	return srk, nil
}

// keepKeys keeps the keys that a boot needs before it has any authorization.
func keepKeys(device transport.TPM) error {
	if err := attester.KeepKey(device, attester.AKHandle, tpm.AKTemplate()); err != nil {
		return fmt.Errorf("attestation key: %w", err)
	}
	if err := attester.KeepKey(device, handleSRK, tpm2.ECCSRKTemplate); err != nil {
		return fmt.Errorf("storage key: %w", err)
	}
	return nil
}

// ensureKeys is keepKeys for as long as the owner's authorization is not set:
// until then another image can plant keys, and afterwards none can.
func ensureKeys(d Device) error {
	return d.Do(func(device transport.TPM) error {
		permanent, err := attester.ReadPermanent(device)
		if err != nil || permanent.OwnerAuthSet() {
			return err
		}
		return keepKeys(device)
	})
}
