package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ocsfObjects are the classes and objects that alerts have: the schema has hundreds.
var ocsfObjects = []string{
	classes + "detection_finding", classes + "base_event", "analytic", "attack", "container", "device", "dns_query",
	"email",
	"evidences", "file", "finding_info", "fingerprint", "image", "malware",
	"metadata", "network_endpoint", "observable", "os", "process", "product", "reg_key", "reg_value", "remediation",
	"resource_details", "sub_technique",
	"tactic", "technique", "url", "user",
}

// classes stands before the names of classes, profiles before those of profiles.
const (
	classes  = "class "
	profiles = "profile "
)

// incident is the only profile that alerts have.
const incident = "profiles/incident.json"

// ocsfItem is a class, an object or an attribute.
type ocsfItem struct {
	Name, Extends, Caption, Type, Requirement string
	IsArray                                   bool `json:"is_array"`
	Observable                                int
	Profile                                   *string
	Enum                                      map[string]struct{ Caption string }
	Constraints                               struct {
		AtLeastOne []string `json:"at_least_one"`
	}
	Attributes map[string]json.RawMessage
}

type ocsfSchema struct {
	items       map[string]ocsfItem // classes and objects
	attributes  map[string]ocsfItem // of the dictionaries
	observables map[int]string
}

// ocsf writes a line for each class and object, "@name" and where there are any the attributes of which it must have
// one, and under it a line for each attribute: name, type, "[]" where it is a list, requirement, and the members of
// its enum.
func ocsf(dir string, out io.Writer) error {
	s := ocsfSchema{map[string]ocsfItem{}, map[string]ocsfItem{}, map[int]string{0: "Unknown", 99: "Other"}}
	for _, dictionary := range []string{"dictionary.json", "extensions/windows/dictionary.json"} {
		if err := s.dictionary(filepath.Join(dir, dictionary)); err != nil {
			return err
		}
	}
	for _, pattern := range []string{"events/base_event.json", "events/findings/*.json", "objects/*.json",
		"extensions/windows/objects/*.json", incident} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := s.read(path); err != nil {
				return err
			}
		}
	}
	fmt.Fprintln(out, "# Attributes, types, requirements and enums of the Open Cybersecurity Schema Framework "+
		"(github.com/ocsf/ocsf-schema, with its Windows")
	fmt.Fprintln(out, "# extension), Apache License 2.0. Written by internal/shapeschema.")
	for _, name := range ocsfObjects {
		if err := s.write(name, out); err != nil {
			return err
		}
	}
	return nil
}

func parseItem(path string) (item ocsfItem, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return item, err
	}
	if err := json.Unmarshal(text, &item); err != nil {
		return item, fmt.Errorf("%s: %w", path, err)
	}
	return item, nil
}

func (s *ocsfSchema) dictionary(path string) error {
	d, err := parseItem(path)
	if err != nil {
		return err
	}
	var types struct {
		Types struct{ Attributes map[string]ocsfItem }
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &types); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, t := range types.Types.Attributes {
		s.observables[t.Observable] = t.Caption
	}
	for name, text := range d.Attributes {
		var a ocsfItem
		if err := json.Unmarshal(text, &a); err != nil {
			return fmt.Errorf("%s: %s: %w", path, name, err)
		}
		s.attributes[name] = a
		if a.Observable > 0 {
			s.observables[a.Observable] = a.Caption
		}
	}
	s.observables[0] = "Unknown"
	return nil
}

// read takes a class or object. One of the Windows extension adds to that of its name.
func (s *ocsfSchema) read(path string) error {
	item, err := parseItem(path)
	if err != nil {
		return err
	}
	name := item.Name
	if name == "" {
		name = item.Extends
	}
	if strings.Contains(filepath.ToSlash(path), "/events/") { // some have the name of an object
		if name, item.Extends = classes+name, classes+item.Extends; item.Extends == classes {
			item.Extends = ""
		}
	}
	if strings.HasSuffix(filepath.ToSlash(path), "/"+incident) {
		name = profiles + name
	}
	if strings.Contains(filepath.ToSlash(path), "/extensions/") {
		if core, known := s.items[name]; known {
			for a, text := range item.Attributes {
				core.Attributes[a] = text
			}
			if item.Constraints.AtLeastOne != nil {
				core.Constraints = item.Constraints
			}
			s.items[name] = core
			return nil
		}
	}
	s.items[name] = item
	return nil
}

// resolve returns the attributes of an item with those that it inherits. Attributes of profiles other than incident are
// left out.
func (s *ocsfSchema) resolve(name string) (map[string]ocsfItem, []string, error) {
	item, known := s.items[name]
	if !known {
		return nil, nil, fmt.Errorf("the schema has no %s", name)
	}
	all, one := map[string]ocsfItem{}, item.Constraints.AtLeastOne
	if item.Extends != "" && item.Extends != name {
		inherited, constraint, err := s.resolve(item.Extends)
		if err != nil {
			return nil, nil, err
		}
		all = inherited
		if one == nil && string(item.Attributes["constraints"]) == "" {
			one = constraint
		}
	}
	attributes := maps.Clone(item.Attributes)
	if strings.Contains(string(attributes["$include"]), `"`+incident+`"`) {
		for a, text := range s.items[profiles+"incident"].Attributes {
			if attributes[a] == nil {
				attributes[a] = text
			}
		}
	}
	for a, text := range attributes {
		if strings.HasPrefix(a, "$") {
			continue
		}
		attribute := s.attributes[a]
		attribute.Requirement = ""
		attribute.Enum = maps.Clone(attribute.Enum)
		if have, inherited := all[a]; inherited {
			attribute = have
			attribute.Enum = maps.Clone(attribute.Enum)
		}
		before := attribute.Enum
		attribute.Enum = nil
		if err := json.Unmarshal(text, &attribute); err != nil {
			return nil, nil, fmt.Errorf("%s: %s: %w", name, a, err)
		}
		if before != nil && a != "status_id" { // a finding has statuses of its own
			for id, member := range attribute.Enum {
				before[id] = member
			}
			attribute.Enum = before
		} else if before != nil && attribute.Enum != nil {
			attribute.Enum["0"], attribute.Enum["99"] = before["0"], before["99"]
		} else if before != nil {
			attribute.Enum = before
		}
		all[a] = attribute
	}
	return all, one, nil
}

func (s *ocsfSchema) write(name string, out io.Writer) error {
	all, one, err := s.resolve(name)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, strings.Join(append([]string{"@" + strings.TrimPrefix(name, classes)}, one...), " "))
	for _, a := range slices.Sorted(maps.Keys(all)) {
		attribute := all[a]
		if attribute.Requirement == "" {
			attribute.Requirement = "optional"
		}
		line := a + " " + attribute.Type
		if attribute.IsArray {
			line += "[]"
		}
		line += " " + attribute.Requirement
		var members []string
		for id, member := range attribute.Enum {
			members = append(members, id+"="+member.Caption)
		}
		if name == "observable" && a == "type_id" {
			members = nil
			for id, caption := range s.observables {
				members = append(members, strconv.Itoa(id)+"="+caption)
			}
		}
		// else too many, or those of another class
		if a != "class_uid" && a != "category_uid" && len(members) > 0 && len(members) <= 60 {
			slices.SortFunc(members, func(a, b string) int { return number(a) - number(b) })
			line += " " + strings.Join(members, "|")
		}
		fmt.Fprintln(out, line)
	}
	return nil
}

func number(member string) int {
	id, _, _ := strings.Cut(member, "=")
	n, _ := strconv.Atoi(id)
	return n
}
