package tdxtest

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/tdx"
)

// Collateral signs the statements and the lists as they are set by now.
func (p *Platform) Collateral() *tdx.Collateral {
	p.tb.Helper()
	p.certify()
	issuers := encode(p.signing.Certificate, p.root.Certificate)
	return &tdx.Collateral{
		TCBInfo:      p.statement("tcbInfo", tcbInfoJSON(&p.TCBInfo)),
		TCBInfoChain: issuers,
		QEIdentity:   p.statement("enclaveIdentity", identityJSON(&p.QEIdentity)), QEIdentityChain: issuers,
		PCKCRL:  p.list(p.ca, map[*x509.Certificate]bool{p.pck: p.RevokePCK}),
		RootCRL: p.list(p.root, map[*x509.Certificate]bool{p.ca.Certificate: p.RevokeCA, p.signing.Certificate: p.RevokeSigning}),
	}
}

func (p *Platform) list(by *chaintest.Authority, revoked map[*x509.Certificate]bool) []byte {
	var named []*x509.Certificate
	for c, is := range revoked {
		if is {
			named = append(named, c)
		}
	}
	return by.List(p.EditList, named...)
}

// object is an object of JSON, written with its keys in order.
type object map[string]any

// statement signs one of Intel's statements and puts it into its envelope.
func (p *Platform) statement(kind string, body object) []byte {
	p.tb.Helper()
	inner, err := json.Marshal(body)
	if err != nil {
		p.tb.Fatal(err)
	}
	return fmt.Appendf(nil, `{"%s":%s,"signature":"%x"}`, kind, inner, p.sign(p.signing.Key, inner))
}

func dated(w tdx.Window, o object) object {
	o["issueDate"], o["nextUpdate"] = date(w.IssueDate), date(w.NextUpdate)
	return o
}

func date(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func level(tcb object, at time.Time, s tdx.Status, advisories []string) object {
	o := object{"tcb": tcb, "tcbDate": date(at), "tcbStatus": s.String()}
	if len(advisories) > 0 {
		o["advisoryIDs"] = advisories
	}
	return o
}

func svnLevels(levels []tdx.SVNLevel) []object {
	var all []object
	for _, l := range levels {
		all = append(all, level(object{"isvsvn": l.ISVSVN}, l.Date, l.Status, l.Advisories))
	}
	return all
}

func components(svns [16]uint8) []object {
	var all []object
	for _, svn := range svns {
		all = append(all, object{"svn": svn})
	}
	return all
}

func module(m *tdx.ModuleIdentity) object {
	return object{
		"mrsigner": m.MRSIGNER.String(), "attributes": hex.EncodeToString(m.Attributes[:]),
		"attributesMask": hex.EncodeToString(m.AttributesMask[:]),
	}
}

func tcbInfoJSON(t *tdx.TCBInfo) object {
	var levels, modules []object
	for _, l := range t.Levels {
		tcb := object{"sgxtcbcomponents": components(l.SGX), "pcesvn": l.PCESVN, "tdxtcbcomponents": components(l.TDX)}
		levels = append(levels, level(tcb, l.Date, l.Status, l.Advisories))
	}
	for version, m := range t.Modules {
		o := module(&m)
		o["id"], o["tcbLevels"] = fmt.Sprintf("TDX_%02X", version), svnLevels(m.Levels)
		modules = append(modules, o)
	}
	return dated(t.Window, object{
		"id": "TDX", "version": 3, "fmspc": t.FMSPC.String(), "pceId": hex.EncodeToString(t.PCEID[:]), "tcbType": 0,
		"tcbEvaluationDataNumber": t.EvaluationDataNumber, "tdxModule": module(&t.Module),
		"tdxModuleIdentities": modules, "tcbLevels": levels,
	})
}

func identityJSON(q *tdx.QEIdentity) object {
	word := func(v uint32) string { return hex.EncodeToString(binary.LittleEndian.AppendUint32(nil, v)) }
	return dated(q.Window, object{
		"id": "TD_QE", "version": 2, "tcbEvaluationDataNumber": q.EvaluationDataNumber,
		"miscselect": word(q.MiscSelect), "miscselectMask": word(q.MiscSelectMask),
		"attributes": hex.EncodeToString(q.Attributes[:]), "attributesMask": hex.EncodeToString(q.AttributesMask[:]),
		"mrsigner": hex.EncodeToString(q.MRSIGNER[:]), "isvprodid": q.ISVPRODID, "tcbLevels": svnLevels(q.Levels),
	})
}

// field is one of the SGX extension's.
type field struct {
	ID    asn1.ObjectIdentifier
	Value any
}

// sgxExtension is what a platform's certificate says of it.
func sgxExtension(tb testing.TB, p *tdx.PCK) pkix.Extension {
	tb.Helper()
	oid := asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}
	under := func(arcs ...int) asn1.ObjectIdentifier { return append(oid[:len(oid):len(oid)], arcs...) }
	var tcb []field
	for i, svn := range p.Components {
		tcb = append(tcb, field{under(2, i+1), int(svn)})
	}
	tcb = append(tcb, field{under(2, 17), int(p.PCESVN)}, field{under(2, 18), p.CPUSVN[:]})
	der, err := asn1.Marshal([]field{
		{under(1), p.PPID[:]}, {under(2), tcb}, {under(3), p.PCEID[:]}, {under(4), p.FMSPC[:]}, {under(5), asn1.Enumerated(1)},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return pkix.Extension{Id: oid, Value: der}
}
