package tdx

// ReportKind is the kind of a TD report, as version 5 of the quote numbers it.
type ReportKind uint16

// The kinds of TD report (Intel TDX DCAP Quoting Library API, appendix 3.8).
const (
	// TD10 is TDX 1.0's.
	TD10 ReportKind = 2
	// TD15 is TDX 1.5's: it adds the module's current version and service TDs.
	TD15 ReportKind = 3
)

// size is the report's bytes; zero for a kind that is unknown.
func (k ReportKind) size() int {
	switch k {
	case TD10:
		return 584
	case TD15:
		return 648
	}
	return 0
}

// The bits of TDATTRIBUTES that a verifier asks about (Intel TDX Module ABI
// Specification, "TD Attributes").
const (
	// AttributeDebug lets the host read and write the TD's memory and registers.
	AttributeDebug uint64 = 1 << 0
	// AttributeSEPTVEDisable makes an unaccepted page no exception that the TD
	// could be driven into; Linux demands it.
	AttributeSEPTVEDisable uint64 = 1 << 28
	// AttributeMigratable lets the TD move to another platform.
	AttributeMigratable uint64 = 1 << 29
	// AttributePKS is supervisor protection keys.
	AttributePKS uint64 = 1 << 30
	// AttributePerfmon gives the TD performance counters.
	AttributePerfmon uint64 = 1 << 63
)

// AttributesUntrusted are those bits of TDATTRIBUTES that put a TD off trust
// whenever one is set: group TUD, which begins with debug.
const AttributesUntrusted uint64 = 0xff

// Report is what the TDX module says of a TD and of itself.
type Report struct {
	Kind ReportKind
	// TEETCBSVN are the versions of what TDX is made of: of the module minor
	// (0) and major (1), of microcode (2), and reserved ones.
	TEETCBSVN [16]byte
	// MRSEAM is the module's measurement, MRSIGNERSEAM its signer's: zero for
	// Intel.
	MRSEAM       Measurement
	MRSIGNERSEAM Measurement
	// SEAMAttributes are the module's own attributes: zero for a production one.
	SEAMAttributes [8]byte
	// TDAttributes and XFAM are the TD's attributes and its processor state
	// features, as the host set them at its start.
	TDAttributes uint64
	XFAM         uint64
	// MRTD measures the TD's initial memory, the firmware.
	MRTD Measurement
	// MRCONFIGID, MROWNER and MROWNERCONFIG are the host's own, fixed at start.
	MRCONFIGID    Measurement
	MROWNER       Measurement
	MROWNERCONFIG Measurement
	// RTMR are the registers that the TD extends.
	RTMR [4]Measurement
	// ReportData is the TD's own choice.
	ReportData [64]byte
	// TEETCBSVN2 is the module's version by now, which may be newer than the one
	// that started the TD; MRSERVICETD measures bound service TDs. Both are
	// zero for a TD10.
	TEETCBSVN2  [16]byte
	MRSERVICETD Measurement
}

func (t *Report) read(r *reader) {
	r.fill("tee_tcb_svn", t.TEETCBSVN[:])
	r.fill("mrseam", t.MRSEAM[:])
	r.fill("mrsignerseam", t.MRSIGNERSEAM[:])
	r.fill("seam attributes", t.SEAMAttributes[:])
	t.TDAttributes = r.uint64("td attributes")
	t.XFAM = r.uint64("xfam")
	r.fill("mrtd", t.MRTD[:])
	r.fill("mrconfigid", t.MRCONFIGID[:])
	r.fill("mrowner", t.MROWNER[:])
	r.fill("mrownerconfig", t.MROWNERCONFIG[:])
	for i := range t.RTMR {
		r.fill("rtmr", t.RTMR[i][:])
	}
	r.fill("report data", t.ReportData[:])
	if t.Kind == TD15 {
		r.fill("tee_tcb_svn_2", t.TEETCBSVN2[:])
		r.fill("mrservicetd", t.MRSERVICETD[:])
	}
}

// qeReportSize is the bytes of an SGX enclave's report body.
const qeReportSize = 384

// QEReport is the SGX report of the quoting enclave (Intel SDM volume 3D,
// section 38.15).
type QEReport struct {
	CPUSVN     [16]byte
	MiscSelect uint32
	Attributes [16]byte
	MRENCLAVE  [32]byte
	MRSIGNER   [32]byte
	ISVPRODID  uint16
	ISVSVN     uint16
	ReportData [64]byte
}

func parseQEReport(b []byte) (QEReport, error) {
	var q QEReport
	r := &reader{name: "qe report", rest: b}
	r.fill("cpusvn", q.CPUSVN[:])
	q.MiscSelect = r.uint32("miscselect")
	r.zeros("reserved 1", 28)
	r.fill("attributes", q.Attributes[:])
	r.fill("mrenclave", q.MRENCLAVE[:])
	r.zeros("reserved 2", 32)
	r.fill("mrsigner", q.MRSIGNER[:])
	r.zeros("reserved 3", 96)
	q.ISVPRODID = r.uint16("isvprodid")
	q.ISVSVN = r.uint16("isvsvn")
	r.zeros("reserved 4", 60)
	r.fill("report data", q.ReportData[:])
	return q, r.end()
}
