/** How the MC146818 shows time: its registers in the format that register B chooses. */

export const RTC_SECONDS = 0;
export const RTC_SECONDS_ALARM = 1;
export const RTC_MINUTES = 2;
export const RTC_MINUTES_ALARM = 3;
export const RTC_HOURS = 4;
export const RTC_HOURS_ALARM = 5;
export const RTC_DAY_OF_WEEK = 6;
export const RTC_DAY_OF_MONTH = 7;
export const RTC_MONTH = 8;
export const RTC_YEAR = 9;
/** The PC's addition, in plain storage (ACPI: FADT's CENTURY). */
export const RTC_CENTURY = 0x32;

/** Register B: binary, not BCD. */
export const REG_B_DM = 0x04;
/** Register B: 24 hours. */
export const REG_B_24H = 0x02;

const PM = 0x80;
/** An alarm register with both bits set matches everything. */
const DONT_CARE = 0xc0;

/** Writes the time `ms` (milliseconds since 1970, UTC) to the clock registers in `registers`. */
export function encodeTime(ms: number, registerB: number, registers: Uint8Array): void {
  const date = new Date(ms);
  const put = (register: number, value: number): void => {
    registers[register] = encode(value, registerB);
  };
  put(RTC_SECONDS, date.getUTCSeconds());
  put(RTC_MINUTES, date.getUTCMinutes());
  registers[RTC_HOURS] = encodeHours(date.getUTCHours(), registerB);
  put(RTC_DAY_OF_WEEK, date.getUTCDay() + 1);
  put(RTC_DAY_OF_MONTH, date.getUTCDate());
  put(RTC_MONTH, date.getUTCMonth() + 1);
  put(RTC_YEAR, date.getUTCFullYear() % 100);
  put(RTC_CENTURY, Math.floor(date.getUTCFullYear() / 100));
}

/** The time that the clock registers show, milliseconds since 1970, UTC. Fields out of range carry over. */
export function decodeTime(registers: Uint8Array, registerB: number): number {
  const get = (register: number): number => decode(registers[register] as number, registerB);
  const year = get(RTC_CENTURY) * 100 + get(RTC_YEAR);
  const hours = decodeHours(registers[RTC_HOURS] as number, registerB);
  const date = new Date(0);
  // Not Date.UTC(): it takes years below 100 for 19xx.
  date.setUTCFullYear(year, get(RTC_MONTH) - 1, get(RTC_DAY_OF_MONTH));
  date.setUTCHours(hours, get(RTC_MINUTES), get(RTC_SECONDS));
  return date.getTime();
}

/** First second after `after` (both in seconds since 1970) at which the alarm registers match; Infinity: they never do. */
export function nextAlarm(after: number, registers: Uint8Array, registerB: number): number {
  const alarm = (register: number, decoder: typeof decode): number => {
    const value = registers[register] as number;
    return (value & DONT_CARE) === DONT_CARE ? -1 : decoder(value, registerB);
  };
  const hour = alarm(RTC_HOURS_ALARM, decodeHours);
  const minute = alarm(RTC_MINUTES_ALARM, decode);
  const second = alarm(RTC_SECONDS_ALARM, decode);
  if (hour > 23 || minute > 59 || second > 59) return Infinity;
  for (let time = after + 1; ; ) {
    if (hour >= 0 && modulo(Math.floor(time / 3600), 24) !== hour) time = (Math.floor(time / 3600) + 1) * 3600;
    else if (minute >= 0 && modulo(Math.floor(time / 60), 60) !== minute) time = (Math.floor(time / 60) + 1) * 60;
    else if (second >= 0 && modulo(time, 60) !== second) time++;
    else return time;
  }
}

/** Remainder from 0 on, also for times before 1970. */
function modulo(value: number, divisor: number): number {
  return ((value % divisor) + divisor) % divisor;
}

function encode(value: number, registerB: number): number {
  return (registerB & REG_B_DM) !== 0 ? value : (Math.floor(value / 10) << 4) | (value % 10);
}

function decode(value: number, registerB: number): number {
  return (registerB & REG_B_DM) !== 0 ? value : (value >> 4) * 10 + (value & 0xf);
}

function encodeHours(hours: number, registerB: number): number {
  if ((registerB & REG_B_24H) !== 0) return encode(hours, registerB);
  return encode(hours % 12 === 0 ? 12 : hours % 12, registerB) | (hours >= 12 ? PM : 0);
}

function decodeHours(value: number, registerB: number): number {
  if ((registerB & REG_B_24H) !== 0) return decode(value, registerB);
  return (decode(value & ~PM, registerB) % 12) + ((value & PM) !== 0 ? 12 : 0);
}
