package tdx

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/strictjson"
)

// TCBInfo is how Intel rates the platforms of one FMSPC (Intel PCS API v4, "TCB
// Info V3", id TDX).
type TCBInfo struct {
	Window
	FMSPC FMSPC
	PCEID [2]byte
	// EvaluationDataNumber counts Intel's rounds of rating.
	EvaluationDataNumber uint32
	// Module is TDX module 0, from before modules had versions of their own;
	// Modules are the later ones, by major version.
	Module  ModuleIdentity
	Modules map[uint8]ModuleIdentity
	// Levels are the ratings, newest first.
	Levels []PlatformLevel
}

// ModuleIdentity is how a genuine TDX module of one major version looks.
type ModuleIdentity struct {
	MRSIGNER       Measurement
	Attributes     [8]byte
	AttributesMask [8]byte
	// Levels rate the module's minor versions; none for module 0, which the
	// platform's levels rate.
	Levels []SVNLevel
}

// PlatformLevel is how Intel rates platforms from these versions on.
type PlatformLevel struct {
	SGX        [16]uint8
	PCESVN     uint16
	TDX        [16]uint8
	Date       time.Time
	Status     Status
	Advisories []string
}

type wireModule struct {
	MRSIGNER       hexField `json:"mrsigner"`
	Attributes     hexField `json:"attributes"`
	AttributesMask hexField `json:"attributesMask"`
}

type wireModuleIdentity struct {
	ID string `json:"id"`
	wireModule
	Levels []wireLevel[wireSVN] `json:"tcbLevels"`
}

type wireComponent struct {
	SVN      *uint8 `json:"svn"`
	Category string `json:"category"`
	Type     string `json:"type"`
}

type wirePlatform struct {
	SGX    []wireComponent `json:"sgxtcbcomponents"`
	PCESVN *uint16         `json:"pcesvn"`
	TDX    []wireComponent `json:"tdxtcbcomponents"`
}

type wireTCBInfo struct {
	ID      string `json:"id"`
	Version int    `json:"version"`
	Window
	FMSPC      hexField                  `json:"fmspc"`
	PCEID      hexField                  `json:"pceId"`
	TCBType    int                       `json:"tcbType"`
	Evaluation uint32                    `json:"tcbEvaluationDataNumber"`
	Module     wireModule                `json:"tdxModule"`
	Modules    []wireModuleIdentity      `json:"tdxModuleIdentities"`
	Levels     []wireLevel[wirePlatform] `json:"tcbLevels"`
}

const nameTCBInfo = "tcb info"

// parseTCBInfo reads what Intel's service answers. The statement's signature is
// yet to be verified.
func parseTCBInfo(b []byte) (*TCBInfo, statement, error) {
	o, err := open(nameTCBInfo, b)
	if err != nil {
		return nil, statement{}, err
	}
	s, err := o.statement(nameTCBInfo, o.TCBInfo)
	if err != nil {
		return nil, s, err
	}
	var w wireTCBInfo
	if err := strictjson.Unmarshal(s.body, &w); err != nil {
		return nil, s, fmt.Errorf("%w: %s: %w", attest.ErrMalformed, nameTCBInfo, err)
	}
	t, err := w.read()
	return t, s, err
}

func (w *wireTCBInfo) read() (*TCBInfo, error) {
	switch {
	case w.ID != "TDX" || w.Version != 3:
		return nil, fmt.Errorf("%w: tcb info %.20q of version %d is unknown", attest.ErrMalformed, w.ID, w.Version)
	case w.TCBType != 0:
		return nil, fmt.Errorf("%w: tcb info: tcbType %d is unknown", attest.ErrMalformed, w.TCBType)
	}
	t := &TCBInfo{Window: w.Window, EvaluationDataNumber: w.Evaluation}
	if err := t.check(nameTCBInfo); err != nil {
		return nil, err
	}
	if err := w.FMSPC.into("fmspc", t.FMSPC[:]); err != nil {
		return nil, err
	}
	if err := w.PCEID.into("pceId", t.PCEID[:]); err != nil {
		return nil, err
	}
	if err := w.readModules(t); err != nil {
		return nil, err
	}
	if err := count(nameTCBInfo, len(w.Levels), maxLevels); err != nil {
		return nil, err
	}
	t.Levels = make([]PlatformLevel, len(w.Levels))
	for i := range w.Levels {
		if err := readPlatform(&w.Levels[i], &t.Levels[i]); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (w *wireTCBInfo) readModules(t *TCBInfo) error {
	if err := w.Module.into(&t.Module); err != nil {
		return err
	}
	if len(w.Modules) > maxIdentities {
		return fmt.Errorf("%w: tcb info has %d tdx modules, at most %d", attest.ErrMalformed, len(w.Modules), maxIdentities)
	}
	t.Modules = make(map[uint8]ModuleIdentity, len(w.Modules))
	for i := range w.Modules {
		version, m, err := w.Modules[i].read()
		if err != nil {
			return err
		}
		if _, twice := t.Modules[version]; twice {
			return fmt.Errorf("%w: tcb info has tdx module %d twice", attest.ErrMalformed, version)
		}
		t.Modules[version] = m
	}
	return nil
}

// read is the module's major version, which stands in its id in hex, and the rest.
func (w *wireModuleIdentity) read() (uint8, ModuleIdentity, error) {
	var m ModuleIdentity
	digits, ok := strings.CutPrefix(w.ID, "TDX_")
	version, err := hex.DecodeString(digits)
	if !ok || err != nil || len(version) != 1 {
		return 0, m, fmt.Errorf("%w: tdx module %.20q is unknown", attest.ErrMalformed, w.ID)
	}
	if err := w.into(&m); err != nil {
		return 0, m, err
	}
	m.Levels, err = svnLevels("tdx module "+w.ID, w.Levels)
	return version[0], m, err
}

func (w *wireModule) into(m *ModuleIdentity) error {
	if err := w.MRSIGNER.into("mrsigner of tdx module", m.MRSIGNER[:]); err != nil {
		return err
	}
	if err := w.Attributes.into("attributes of tdx module", m.Attributes[:]); err != nil {
		return err
	}
	return w.AttributesMask.into("attributesMask of tdx module", m.AttributesMask[:])
}

func readPlatform(w *wireLevel[wirePlatform], l *PlatformLevel) error {
	if err := w.check(nameTCBInfo); err != nil {
		return err
	}
	if w.TCB.PCESVN == nil {
		return fmt.Errorf("%w: a tcb level of tcb info has no pcesvn", attest.ErrMalformed)
	}
	*l = PlatformLevel{PCESVN: *w.TCB.PCESVN, Date: w.Date, Status: w.Status, Advisories: w.Advisories}
	if err := components("sgxtcbcomponents", w.TCB.SGX, &l.SGX); err != nil {
		return err
	}
	return components("tdxtcbcomponents", w.TCB.TDX, &l.TDX)
}

func components(name string, wire []wireComponent, dst *[16]uint8) error {
	if len(wire) != len(dst) {
		return fmt.Errorf("%w: %s has %d entries, want %d", attest.ErrMalformed, name, len(wire), len(dst))
	}
	for i, c := range wire {
		if c.SVN == nil {
			return fmt.Errorf("%w: %s has an entry with no svn", attest.ErrMalformed, name)
		}
		dst[i] = *c.SVN
	}
	return nil
}
