const slider = document.getElementById("opacity");
const apply = () => document.documentElement.style.setProperty("--heat", slider.value / 100);
slider.addEventListener("input", apply);
document.getElementById("controls").hidden = false;
apply();
