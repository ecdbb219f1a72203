package record

import (
	"encoding/binary"
	"time"
)

const (
	// maxSeconds is the last whole second that an EventTime may hold: the two after it are Fluent Bit's markers for
	// groups when their nanoseconds are 0, and 2106 ends there.
	maxSeconds = 0xFFFFFFFD

	headSize = 11 // of what stands before the map: the array of two and the EventTime
)

// putHead writes the array header and the EventTime at out[o] and returns the index behind them.
func putHead(out []byte, o int, sec int64, nsec uint32) int {
	out[o], out[o+1], out[o+2] = 0x92, 0xd7, 0x00 // array of two; ext of 8 bytes, type 0
	binary.BigEndian.PutUint32(out[o+3:], uint32(sec))
	binary.BigEndian.PutUint32(out[o+7:], nsec)
	return o + headSize
}

// inRange brings the time of the pull into what an EventTime holds; only a clock that is off by decades is changed.
func inRange(t time.Time) (sec int64, nsec uint32) {
	sec = t.Unix()
	switch {
	case sec < 0:
		return 0, 0
	case sec > maxSeconds:
		return maxSeconds, 0
	}
	return sec, uint32(t.Nanosecond())
}

// parseTime reads a time such as 2017-01-23T07:32:54.1861171Z: RFC 3339, with T, t or a blank between date and time,
// any number of digits of a fraction (those after the ninth are cut), and Z, z, an offset (+02:00, +0200, +02) or
// nothing, which means UTC. Times before 1970 or after 2106 are not ok, among them .NET's 0001-01-01.
func parseTime(b []byte) (sec int64, nsec uint32, ok bool) {
	if len(b) < 19 || b[10]|0x20 != 't' && b[10] != ' ' || b[16] != ':' {
		return 0, 0, false
	}
	date, bad0 := digits(binary.LittleEndian.Uint64(b), yearMonth, yearMonthMost)
	clock, bad1 := digits(binary.LittleEndian.Uint64(b[8:])&^(0xff<<16), dayHourMinute, dayHourMinuteMost)
	second, bad2 := two(b, 17)
	year, month := int(date&0xff)*100+int(date>>16&0xff), int(date>>40&0xff)
	day, hour, minute := int(clock&0xff), int(clock>>24&0xff), int(clock>>48&0xff)
	// a second of 60 is a leap second; it counts as the next second, as everywhere in Unix time
	if bad0 || bad1 || bad2 || year < 1969 || year > 2106 ||
		month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 || second > 60 {
		return 0, 0, false
	}
	sec = (daysSince1970(year, month, day)*24+int64(hour))*3600 + int64(minute*60+second)
	i := 19
	if i < len(b) && (b[i] == '.' || b[i] == ',') {
		i++
		from := i
		unit := uint32(100_000_000)
		if len(b) == 28 { // mostly seven digits and a Z
			n, bad := digits(binary.LittleEndian.Uint64(b[20:])&^(0xff<<56), fraction, fractionMost)
			if !bad {
				nsec = uint32(n&0xff)*10_000_000 + uint32(n>>16&0xff)*100_000 + uint32(n>>32&0xff)*1_000 +
					uint32(n>>48&0xff)*10
				i, unit = 27, 10
			}
		}
		for ; i < len(b) && isDigit(b[i]); i++ {
			nsec += uint32(b[i]-'0') * unit
			unit /= 10
		}
		if i == from {
			return 0, 0, false
		}
	}
	offset, ok := parseZone(b[i:])
	sec -= offset
	if !ok || sec < 0 || sec > maxSeconds {
		return 0, 0, false
	}
	return sec, nsec, true
}

// parseZone returns the seconds east of UTC.
func parseZone(b []byte) (offset int64, ok bool) {
	switch {
	case len(b) == 0, len(b) == 1 && b[0]|0x20 == 'z':
		return 0, true
	case len(b) < 3 || b[0] != '+' && b[0] != '-':
		return 0, false
	}
	hours, bad := two(b, 1)
	minutes := 0
	switch {
	case bad:
		return 0, false
	case len(b) == 3:
	case len(b) == 5:
		minutes, bad = two(b, 3)
	case len(b) == 6 && b[3] == ':':
		minutes, bad = two(b, 4)
	default:
		return 0, false
	}
	if bad || hours > 23 || minutes > 59 {
		return 0, false
	}
	offset = int64(hours*3600 + minutes*60)
	if b[0] == '-' {
		offset = -offset
	}
	return offset, true
}

// Layouts: what eight bytes of text have to be, the first as the lowest byte: 0 for a digit, all else for itself. The
// second constant is the most that may be added to each byte, once it is taken off, before its highest bit is set.
const (
	yearMonth, yearMonthMost         = 0x2d_30_30_2d_30_30_30_30, 0x7f_76_76_7f_76_76_76_76 // 0000-00-
	dayHourMinute, dayHourMinuteMost = 0x30_30_3a_30_30_00_30_30, 0x76_76_7f_76_76_7f_76_76 // 00, a zero byte, 00:00
	fraction, fractionMost           = 0x00_30_30_30_30_30_30_30, 0x7f_76_76_76_76_76_76_76 // 0000000, a zero byte
)

// digits reads eight bytes of a layout. Byte i of n is the number that the digits at i and i+1 make; what is no digit
// counts as 0.
func digits(text, layout, most uint64) (n uint64, bad bool) {
	d := text ^ layout
	return d*10 + d>>8, (d|(d+most))&0x8080808080808080 != 0
}

// two returns the number that the digits at b[i] and b[i+1] make.
func two(b []byte, i int) (n int, bad bool) {
	d, e := b[i]-'0', b[i+1]-'0'
	return int(d)*10 + int(e), d > 9 || e > 9
}

func daysIn(year, month int) int {
	if month == 2 {
		if year%4 == 0 && year != 2100 { // in the years that count here
			return 29
		}
		return 28
	}
	return 30 + (month+month>>3)&1
}

// daysSince1970 counts the days of a date from 1969 on. Years begin in March here, so that the leap day is a year's
// last.
func daysSince1970(year, month, day int) int64 {
	if month < 3 {
		year--
		month += 12
	}
	days := year*365 + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1
	return int64(days - 719468) // the days to 1970-01-01
}
