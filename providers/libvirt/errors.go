package libvirt

import (
	"context"
	"errors"
	"fmt"
	"strings"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/toolshed-cloud/shed/providers"
)

// is reports whether libvirt refused with one of the numbers.
func is(err error, numbers ...libvirt.ErrorNumber) bool {
	var e libvirt.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, n := range numbers {
		if e.Code == uint32(n) {
			return true
		}
	}
	return false
}

// noSpace is what libvirt passes on of ENOSPC, in an error of the system that
// has no number of its own.
const noSpace = "No space left on device"

// codeOf classifies what went wrong with a daemon. An error that is none of
// libvirt's is a connection that was lost, after which nobody knows.
func codeOf(err error) providers.Code {
	var e libvirt.Error
	switch {
	case is(err, libvirt.ErrAuthFailed, libvirt.ErrAuthCancelled, libvirt.ErrAuthUnavailable):
		return providers.CodeUnauthenticated
	case is(err, libvirt.ErrAccessDenied, libvirt.ErrOperationDenied):
		return providers.CodeDenied
	case is(err, libvirt.ErrNoDomain, libvirt.ErrNoStorageVol):
		return providers.CodeNotFound
	case is(err, libvirt.ErrNoStoragePool, libvirt.ErrNoNetwork):
		return providers.CodeInvalid
	case is(err, libvirt.ErrOperationTimeout, libvirt.ErrOperationInvalid):
		return providers.CodeAborted
	case errors.As(err, &e) && strings.Contains(e.Message, noSpace):
		return providers.CodeCapacity
	case errors.As(err, &e):
		return providers.CodeInternal
	}
	return providers.CodeOutcomeUnknown
}

// hints are what an operator can do about a code.
var hints = map[providers.Code]string{
	providers.CodeUnauthenticated: "the certificate or key that this machine shows is not known there",
	providers.CodeDenied:          "the connection may not do that: see access_drivers and polkit of the host's libvirtd",
	providers.CodeCapacity:        "make room in the storage pool, or drain the host",
	providers.CodeInvalid:         "see pool, files_pool and network of the host",
}

// failure gives what went wrong on a host its code, scope and hint.
func (h *host) failure(err error, doing string) error {
	var known *providers.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return err
	}
	code, scope := codeOf(err), providers.ScopeMachine
	switch code {
	case providers.CodeUnauthenticated, providers.CodeDenied, providers.CodeCapacity, providers.CodeInvalid:
		scope = providers.ScopeRegion
	}
	failed := &providers.Error{Code: code, Scope: scope, Message: fmt.Sprintf("host %s: %s: %s", h.Name, doing, err), Hint: hints[code]}
	if code == providers.CodeOutcomeUnknown {
		failed.Hint = h.look()
	}
	if ctxErr := ended(err); ctxErr != nil {
		return fmt.Errorf("%w: %w", failed, ctxErr)
	}
	return failed
}

// ended answers the end of a context that err carries.
func ended(err error) error {
	for _, end := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, end) {
			return end
		}
	}
	return nil
}

// asking makes of an unknown outcome what it is where nothing was to be done.
func asking(err error) error {
	var e *providers.Error
	if errors.As(err, &e) && e.Code == providers.CodeOutcomeUnknown {
		e.Code = providers.CodeUnavailable
	}
	return err
}
