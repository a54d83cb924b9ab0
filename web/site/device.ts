// What a browser tells of the device before anything runs on it: rough, but enough to begin with something that fits.

/** Whether it is a phone, or as small as one. */
export function phone(): boolean {
  const { userAgentData } = navigator as { userAgentData?: { mobile: boolean } };
  return userAgentData?.mobile || (matchMedia("(pointer: coarse)").matches && Math.min(screen.width, screen.height) < 600);
}

/** Gigabytes of memory. Browsers that say so round, and most say no more than 8; of the others a phone is taken for a
 * middling one, and the rest for laptops. */
export function memoryGb(): number {
  const { deviceMemory } = navigator as { deviceMemory?: number };
  return deviceMemory ?? (phone() ? 4 : 8);
}
