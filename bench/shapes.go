package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fluent/fluent-bit-go/input"

	"fluent-bit-defender/internal/sample"
	"fluent-bit-defender/record"
	"fluent-bit-defender/shape"
)

// shapes reports what the formats of records cost, beside native records, beside the way that a Go plugin usually maps
// fields, and beside Fluent Bit's own C for native records.
func shapes(rows int) error {
	for _, kind := range []shapeKind{
		{"rows like the seed's", "siem", seedLike},
		{"Graph alerts of the simulated service", "graph", graph},
	} {
		if err := shapesOf(kind, rows); err != nil {
			return err
		}
	}
	return nil
}

type shapeKind struct {
	name, api string
	make      func(int) answer
}

func shapesOf(kind shapeKind, rows int) error {
	a := kind.make(rows)
	var all []*sample.Contender
	for _, format := range append([]string{"native"}, shape.Formats...) {
		opt := record.Options{Schema: a.schema, TimeKey: a.timeKey, MaxAlert: 1 << 20, MaxRecord: 1 << 20}
		opt.Encode, opt.EncodeRaw = shape.Encoders(format, kind.api, false)
		all = append(all, &sample.Contender{Name: "format " + format, Run: sample.Reading(record.NewReader(opt), a.body,
			len(a.rows))})
	}
	ways := []func(map[string]any) map[string]any{nil, usualECS, usualOCSF, usualCEF}
	for i, to := range ways {
		all = append(all, &sample.Contender{Name: "the usual way to " + append([]string{"native"}, shape.Formats...)[i],
			Run: usual(a, to)})
	}
	c, err := startC(a.rows)
	defer c.close()
	if err != nil {
		return err
	}
	if c != nil {
		all = append(all, c.contender())
	}
	for range 25 {
		if err := sample.Turn(all); err != nil {
			return err
		}
	}
	fmt.Printf("\n| JSON to records in shapes: %d %s | ns a row | times native | times faster than the usual way | "+
		"allocations a row |\n", len(a.rows), kind.name)
	fmt.Println("|---|---|---|---|---|")
	for i, c := range all {
		allocs := "in C"
		if c.Took == nil {
			allocs = fmt.Sprintf("%.2f", testing.AllocsPerRun(1, func() { _ = c.Run() })/float64(len(a.rows)))
		}
		usual := all[i%len(ways)+len(ways)]
		fmt.Printf("| %s | %.0f | %.2f | %.1f | %s |\n", c.Name, float64(c.Best.Nanoseconds())/float64(len(a.rows)),
			float64(c.Best)/float64(all[0].Best),
			float64(usual.Best)/float64(c.Best), allocs)
	}
	return nil
}

// usual is what a Go plugin is usually made of: encoding/json into maps, maps out of maps, fluent-bit-go's encoder.
func usual(a answer, to func(map[string]any) map[string]any) func() error {
	return func() error {
		dec := json.NewDecoder(bytes.NewReader(a.body))
		if _, err := dec.Token(); err != nil {
			return err
		}
		for dec.More() {
			var fields map[string]any
			if err := dec.Decode(&fields); err != nil {
				return err
			}
			at, _ := time.Parse(time.RFC3339Nano, fmt.Sprint(fields[a.timeKey]))
			if to != nil {
				fields = to(fields)
			}
			if _, err := input.NewEncoder().Encode([]any{&input.FLBTime{Time: at}, fields}); err != nil {
				return err
			}
		}
		return nil
	}
}

func text(m map[string]any, names ...string) string {
	for _, n := range names {
		if s, _ := m[n].(string); s != "" {
			return s
		}
	}
	return ""
}

// usualOCSF maps a part of what the tables do.
func usualOCSF(alert map[string]any) map[string]any {
	created, _ := time.Parse(time.RFC3339Nano, text(alert, "AlertTime", "createdDateTime"))
	severity := text(alert, "Severity", "severity")
	id := map[string]int{"informational": 1, "low": 2, "medium": 3, "high": 4}[strings.ToLower(severity)]
	var evidences, observables []map[string]any
	see := func(kind string, n int, value string) {
		if value != "" {
			observables = append(observables, map[string]any{"name": kind, "type_id": n, "type": kind, "value": value})
		}
	}
	file := func(name, path, sha1, sha256 string) map[string]any {
		var hashes []map[string]any
		for _, h := range []struct {
			id          int
			name, value string
		}{{2, "SHA-1", sha1}, {3, "SHA-256", sha256}} {
			if h.value != "" {
				hashes = append(hashes, map[string]any{"algorithm_id": h.id, "algorithm": h.name, "value": h.value})
				see("Hash", 8, h.value)
			}
		}
		see("File Name", 7, name)
		return map[string]any{"name": name, "type_id": 1, "type": "Regular File", "parent_folder": path,
			"hashes": hashes}
	}
	device := func(name, uid string) map[string]any {
		see("Hostname", 1, name)
		return map[string]any{"hostname": name, "uid": uid, "type_id": 0, "type": "Unknown"}
	}
	pieces, _ := alert["evidence"].([]any)
	if pieces == nil {
		evidences = append(evidences, map[string]any{"device": device(text(alert, "ComputerDnsName"),
			text(alert, "DeviceID")),
			"file": file(text(alert, "FileName"), text(alert, "FilePath"), text(alert, "Sha1"), text(alert, "Sha256"))})
		see("IP Address", 2, text(alert, "IpAddress"))
	}
	for _, e := range pieces {
		piece, _ := e.(map[string]any)
		out := map[string]any{"data": piece}
		switch kind := text(piece, "@odata.type"); {
		case strings.HasSuffix(kind, "deviceEvidence"):
			out["device"] = device(text(piece, "deviceDnsName"), text(piece, "mdeDeviceId"))
		case strings.HasSuffix(kind, "processEvidence"):
			f, _ := piece["imageFile"].(map[string]any)
			out["process"] = map[string]any{"pid": piece["processId"], "cmd_line": text(piece, "processCommandLine"),
				"file": file(text(f, "fileName"), text(f, "filePath"), text(f, "sha1"), text(f, "sha256"))}
		case strings.HasSuffix(kind, "fileEvidence"):
			f, _ := piece["fileDetails"].(map[string]any)
			out["file"] = file(text(f, "fileName"), text(f, "filePath"), text(f, "sha1"), text(f, "sha256"))
		case strings.HasSuffix(kind, "userEvidence"):
			account, _ := piece["userAccount"].(map[string]any)
			out["user"] = map[string]any{"name": text(account, "accountName"), "domain": text(account, "domainName"),
				"uid": text(account, "userSid")}
			see("User Name", 4, text(account, "accountName"))
		}
		evidences = append(evidences, out)
	}
	delete(alert, "evidence")
	return map[string]any{
		"class_uid": 2004, "class_name": "Detection Finding", "category_uid": 2, "activity_id": 1, "type_uid": 200401,
		"is_alert": true, "time": created.UnixMilli(),
		"severity_id": id, "severity": severity, "message": text(alert, "Description", "description"),
		"metadata": map[string]any{"version": "1.8.0", "product": map[string]any{"vendor_name": "Microsoft"}},
		"finding_info": map[string]any{"uid": text(alert, "AlertId", "id"), "title": text(alert, "AlertTitle", "title"),
			"created_time": created.UnixMilli(),
			"src_url":      text(alert, "LinkToWDATP", "alertWebUrl"),
			"types":        []string{text(alert, "Category", "category")}},
		"evidences": evidences, "observables": observables, "unmapped": alert,
	}
}

var cefEscape = strings.NewReplacer(`\`, `\\`, "=", `\=`, "\n", `\n`, "\r", `\r`)

// usualCEF writes a part of what the tables do.
func usualCEF(alert map[string]any) map[string]any {
	created, _ := time.Parse(time.RFC3339Nano, text(alert, "AlertTime", "createdDateTime"))
	severity := map[string]int{"informational": 1, "low": 3, "medium": 5,
		"high": 8}[strings.ToLower(text(alert, "Severity", "severity"))]
	from := map[string]string{"externalId": text(alert, "AlertId", "id"), "cat": text(alert, "Category", "category"),
		"msg":         text(alert, "Description", "description"),
		"flexString1": text(alert, "LinkToWDATP", "alertWebUrl"), "shost": text(alert, "ComputerDnsName"),
		"fname":    text(alert, "FileName"),
		"filePath": text(alert, "FilePath"), "fileHash": text(alert, "Sha1"), "cs6": text(alert, "Sha256"),
		"suser": text(alert, "UserName")}
	pieces, _ := alert["evidence"].([]any)
	for _, e := range pieces {
		piece, _ := e.(map[string]any)
		f, _ := piece["fileDetails"].(map[string]any)
		if f != nil {
			from["fname"], from["filePath"], from["fileHash"] = text(f, "fileName"), text(f, "filePath"),
				text(f, "sha1")
		}
		if host := text(piece, "deviceDnsName"); host != "" {
			from["shost"] = host
		}
	}
	var line strings.Builder
	title := strings.ReplaceAll(text(alert, "AlertTitle", "title"), "|", `\|`)
	fmt.Fprintf(&line, "CEF:0|Microsoft|Windows Defender ATP|2.0|%s|%s|%d|rt=%d",
		text(alert, "IoaDefinitionId", "detectorId"), title, severity, created.UnixMilli())
	for key, value := range from {
		if value != "" {
			fmt.Fprintf(&line, " %s=%s", key, cefEscape.Replace(value))
		}
	}
	return map[string]any{"message": line.String()}
}

// usualECS maps a part of what the tables do.
func usualECS(alert map[string]any) map[string]any {
	severity := map[string]int{"informational": 21, "low": 21, "medium": 47,
		"high": 73}[strings.ToLower(text(alert, "Severity", "severity"))]
	out := map[string]any{
		"ecs": map[string]any{"version": "9.4.0"},
		"event": map[string]any{"kind": "alert", "module": "microsoft_defender",
			"category": []string{"intrusion_detection"}, "type": []string{"info"},
			"id": text(alert, "AlertId", "id"), "created": text(alert, "AlertTime", "createdDateTime"),
			"severity": severity,
			"provider": text(alert, "Source", "serviceSource"), "url": text(alert, "LinkToWDATP", "alertWebUrl")},
		"rule": map[string]any{"name": text(alert, "AlertTitle", "title"), "category": text(alert, "Category",
			"category"),
			"id": text(alert, "IoaDefinitionId", "detectorId")},
		"message":   text(alert, "Description", "description"),
		"microsoft": map[string]any{"defender": alert},
	}
	evidence, _ := alert["evidence"].([]any)
	if evidence == nil {
		out["host"] = map[string]any{"name": text(alert, "ComputerDnsName"), "domain": text(alert, "MachineDomain"),
			"id": text(alert, "DeviceID")}
		out["file"] = map[string]any{"name": text(alert, "FileName"), "directory": text(alert, "FilePath"),
			"hash": map[string]any{"sha1": text(alert, "Sha1"), "sha256": text(alert, "Sha256")}}
		out["process"] = map[string]any{"command_line": text(alert, "CommandLine")}
		out["user"] = map[string]any{"name": text(alert, "UserName")}
	}
	for _, e := range evidence {
		piece, _ := e.(map[string]any)
		switch kind := text(piece, "@odata.type"); {
		case strings.HasSuffix(kind, "deviceEvidence"):
			out["host"] = map[string]any{"name": text(piece, "deviceDnsName"), "id": text(piece, "mdeDeviceId"),
				"os": map[string]any{"name": text(piece, "osPlatform")}}
		case strings.HasSuffix(kind, "processEvidence"):
			out["process"] = map[string]any{"command_line": text(piece, "processCommandLine"),
				"pid": piece["processId"]}
		case strings.HasSuffix(kind, "fileEvidence"):
			file, _ := piece["fileDetails"].(map[string]any)
			out["file"] = map[string]any{"name": text(file, "fileName"),
				"hash": map[string]any{"sha1": text(file, "sha1"), "sha256": text(file, "sha256")}}
		case strings.HasSuffix(kind, "userEvidence"):
			account, _ := piece["userAccount"].(map[string]any)
			out["user"] = map[string]any{"name": text(account, "accountName"), "domain": text(account, "domainName"),
				"id": text(account, "userSid")}
		}
	}
	return out
}
