package nas

import "time"

// TimerDeactivated stands for a timer that the network switched off
// (TS 24.008 clauses 10.5.7.4 and 10.5.7.4a), in place of a duration.
const TimerDeactivated time.Duration = -1

const timerDeactivatedUnit = 7

// Units of the GPRS timers by the three high bits of their octet, finest first.
type timerUnit struct {
	bits byte
	unit time.Duration
}

var (
	// GPRS timer 2: TS 24.008 clause 10.5.7.4, which refers to 10.5.7.3.
	timer2Units = []timerUnit{{0, 2 * time.Second}, {1, time.Minute}, {2, 6 * time.Minute}}
	// GPRS timer 3: TS 24.008 clause 10.5.7.4a.
	timer3Units = []timerUnit{
		{3, 2 * time.Second}, {4, 30 * time.Second}, {5, time.Minute},
		{0, 10 * time.Minute}, {1, time.Hour}, {2, 10 * time.Hour}, {6, 320 * time.Hour},
	}
)

// timerValue writes d with the finest unit that reaches it, exactly if some unit
// does, else rounded up; a longer time than the IE has becomes the longest.
func timerValue(units []timerUnit, d time.Duration) byte {
	const most = 31
	if d == TimerDeactivated {
		return timerDeactivatedUnit << 5
	}
	for _, u := range units {
		if d%u.unit == 0 && d/u.unit <= most {
			return u.bits<<5 | byte(d/u.unit)
		}
	}
	for _, u := range units {
		if d <= most*u.unit {
			return u.bits<<5 | byte((d+u.unit-1)/u.unit)
		}
	}
	return units[len(units)-1].bits<<5 | most
}

func parseTimer(units []timerUnit) func([]byte) (time.Duration, error) {
	return func(v []byte) (time.Duration, error) {
		if len(v) != 1 {
			return 0, errLength
		}
		bits, n := v[0]>>5, time.Duration(v[0]&0x1f)
		if bits == timerDeactivatedUnit {
			return TimerDeactivated, nil
		}
		for _, u := range units {
			if u.bits == bits {
				return n * u.unit, nil
			}
		}
		return n * time.Minute, nil // "other values": TS 24.008 table 10.5.172
	}
}

// putTimer writes d unless it is zero.
func (w *writer) putTimer(name string, units []timerUnit, d time.Duration) {
	if d != 0 {
		w.put(name, timerValue(units, d))
	}
}
