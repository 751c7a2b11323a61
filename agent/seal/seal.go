// Package seal keeps what must outlive a reboot and may not be read elsewhere:
// the claim in the TPM's NV memory and the data disk's key sealed to it.
//
// Invariants: the claim's index is written once and locked; before a claim's
// volume is used nobody but its owner and its own image can define, undefine,
// write or clear anything in the TPM; a data key opens only under the registers of this image, with the claim register still zero,
// under this claim and this epoch; it was sealed by this image, or by the one that
// the owner let hand over to it, and then once; the parameters of encryption are constants
// of this package, and the disk's header is never trusted to choose them.
package seal

import (
	"errors"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Device runs a sequence of commands on the TPM that nothing comes between.
type Device interface {
	Do(func(transport.TPM) error) error
}

// The sentinels of this package.
var (
	// ErrClaimed says that the machine has an owner already.
	ErrClaimed = errors.New("machine is claimed already")
	// ErrNotBlank says that the data disk holds something that a claim would
	// destroy.
	ErrNotBlank = errors.New("data disk is not blank")
	// ErrSealed says that the TPM does not release the data key to this image
	// in this state.
	ErrSealed = errors.New("data key stays sealed")
	// ErrMaker says that the data key was sealed by another image than may
	// have sealed it. A policy says who may open and not who sealed: whoever
	// boots an image of their own on the machine can seal a key they know to
	// the owner's policy.
	ErrMaker = errors.New("data key was sealed by an image that is not accepted")
	// ErrForeignIndex says that the claim stands in an NV index that this
	// package does not make.
	ErrForeignIndex = errors.New("nv index has other attributes than a claim's")
	// ErrOwned says that the TPM's owner or lockout authorization is somebody
	// else's: they could destroy and remake whatever a claim puts there.
	ErrOwned = errors.New("tpm has authorizations that are not this claim's")
	// ErrNothingLeft says that no volume waits for its owner's key.
	ErrNothingLeft = errors.New("no data waits for its owner")
	// ErrForeign says that the data disk belongs to another machine, another
	// claim or another time.
	ErrForeign = errors.New("data disk is not this claim's")
)

// The NV indices, in the range that the owner of a TPM may use (TPM 2.0
// Handles and Localities registry, section 2.2.2).
const (
	// indexClaim holds the claim's digest: written once, then locked for good.
	indexClaim tpm2.TPMHandle = 0x01800100 + iota
	// indexDocument holds the signed claim; indexClaim says whether it is true.
	indexDocument
	// indexVolume holds the id of the claim's volume, once that is formatted:
	// from then on nothing in the machine ever formats a disk again.
	indexVolume
	// indexEpoch holds the floor of the epoch and behind it how many times the
	// volume was handed over, both big-endian uint64.
	indexEpoch
)
