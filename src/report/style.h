#pragma once

#include <string_view>

namespace moegen {

/// Of the report's page.
inline constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark;--bg:#f5f6f8;--card:#fff;--text:#1c2430;--soft:#69758a;--grid:#e6e9ef;--edge:#e3e7ee;
--c1:#2f6fde;--c2:#e07b2e;--c3:#2a9d74;--c4:#8a5cd6;--c5:#b9c2d0;--good:#22875f;--warn:#c25a10}
@media (prefers-color-scheme:dark){:root{--bg:#12161d;--card:#1a202a;--text:#e4e9f1;--soft:#8f9bb0;--grid:#2a323f;--edge:#2a323f;
--c1:#6ea2ff;--c2:#f3a15f;--c3:#4fc99a;--c4:#b694f5;--c5:#4d586b;--good:#4fc99a;--warn:#f3a15f}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1360px;margin:0 auto;padding:28px 24px 48px}
header{display:flex;flex-wrap:wrap;align-items:baseline;gap:4px 14px;margin-bottom:18px}
h1{font-size:23px;font-weight:650;margin:0;overflow-wrap:anywhere}
h2{font-size:16px;font-weight:650;margin:0 0 8px}
.state{font-size:13px;font-weight:600;padding:2px 10px;border-radius:99px;border:1px solid currentColor;color:var(--warn)}
.state.good{color:var(--good)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-bottom:16px}
.tile,figure,section{background:var(--card);border:1px solid var(--edge);border-radius:10px;margin:0}
.tile{padding:12px 16px}
.tile b{display:block;font-size:21px;font-weight:650;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span,small{color:var(--soft);font-size:12.5px}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:16px}
figure{padding:14px 16px 12px;position:relative;min-width:0}
figcaption b{display:block;font-weight:650}
figcaption small{display:block;min-height:1.5em}
svg{display:block;width:100%;height:auto;margin-top:4px}
svg text{font-size:11px;fill:var(--soft);font-variant-numeric:tabular-nums}
.grid line,line.grid{stroke:var(--grid);stroke-width:1}
.line{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
.area{stroke:none;opacity:.85}
.dashed{stroke-dasharray:5 4}
text.limit{paint-order:stroke;stroke:var(--card);stroke-width:3px}
line.limit{stroke:var(--soft);stroke-dasharray:2 4}
line.mark{stroke:var(--warn);stroke-dasharray:3 3}
line.cross{stroke:var(--soft);visibility:hidden}
.line.c1{stroke:var(--c1)}.line.c2{stroke:var(--c2)}.line.c3{stroke:var(--c3)}.line.c4{stroke:var(--c4)}.line.c5{stroke:var(--c5)}
.area.c1,circle.c1{fill:var(--c1)}.area.c2,circle.c2{fill:var(--c2)}.area.c3,circle.c3{fill:var(--c3)}.area.c4,circle.c4{fill:var(--c4)}.area.c5,circle.c5{fill:var(--c5)}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:12.5px;color:var(--soft);padding-left:8px}
.legend i,.tip i{display:inline-block;width:12px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle}
i.c1{background:var(--c1)}i.c2{background:var(--c2)}i.c3{background:var(--c3)}i.c4{background:var(--c4)}i.c5{background:var(--c5)}
i.dashed{background:repeating-linear-gradient(90deg,var(--soft) 0 4px,transparent 4px 7px)}
.tip{position:absolute;pointer-events:none;background:var(--card);border:1px solid var(--edge);border-radius:8px;padding:6px 10px;font-size:12.5px;
box-shadow:0 4px 14px rgba(0,0,0,.18);visibility:hidden;white-space:nowrap;z-index:1;font-variant-numeric:tabular-nums}
section{padding:14px 16px;margin-top:16px;overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px}
th{text-align:left;font-weight:600;color:var(--soft);font-size:12.5px}
th,td{padding:5px 14px 5px 0;border-bottom:1px solid var(--grid);vertical-align:top}
tr:last-child td{border-bottom:0}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.t{overflow-wrap:anywhere}
td .bar{display:block;height:8px;border-radius:4px;background:var(--c2);min-width:3px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;margin:0;font-size:14px}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
footer{color:var(--soft);font-size:12.5px;margin-top:18px}
@media print{body{background:#fff}.grid{grid-template-columns:1fr 1fr}figure,section{break-inside:avoid}}
)";

/// Shows the numbers under the pointer. Its hash is in the page's policy: nothing else runs there.
inline constexpr std::string_view kScript = R"(
const units={count:v=>v>=1e6?(v/1e6).toFixed(2)+' M':v>=1e4?(v/1e3).toFixed(1)+' k':+v.toFixed(v<10?2:0)+'',
bytes:v=>v>=2**30?(v/2**30).toFixed(2)+' GiB':v>=2**20?(v/2**20).toFixed(1)+' MiB':(v/1024).toFixed(0)+' KiB',
percent:v=>v.toFixed(1)+' %',seconds:v=>v<1?(v*1e3).toPrecision(3)+' ms':v<120?v.toPrecision(3)+' s':v<7200?(v/60).toFixed(1)+' min':(v/3600).toFixed(2)+' h'};
for(const figure of document.querySelectorAll('figure')){
const data=JSON.parse(figure.querySelector('script').textContent),svg=figure.querySelector('svg'),cross=svg.querySelector('.cross');
const tip=figure.appendChild(document.createElement('div'));tip.className='tip';
const left=+svg.dataset.left,right=+svg.dataset.right,end=+svg.dataset.end;
svg.addEventListener('pointermove',e=>{
const box=svg.getBoundingClientRect(),x=(e.clientX-box.left)/box.width*640,t=(x-left)/(right-left)*end;
if(!data.x.length||x<left-8||x>right+8)return hide();
let i=data.x.findIndex(v=>v>=t);if(i<0)i=data.x.length-1;if(i>0&&t-data.x[i-1]<data.x[i]-t)i--;
const at=left+data.x[i]/end*(right-left);cross.setAttribute('x1',at);cross.setAttribute('x2',at);cross.style.visibility='visible';
tip.replaceChildren();const head=tip.appendChild(document.createElement('b'));head.textContent='at '+units.seconds(data.x[i]);
for(const s of data.s){if(s.y[i]===null)continue;const row=tip.appendChild(document.createElement('div'));
row.appendChild(document.createElement('i')).className='c'+s.c;row.append(s.n+' '+units[data.unit](s.y[i]))}
tip.style.visibility='visible';const w=tip.offsetWidth,px=at/640*box.width+16;
tip.style.left=(px+w+24>box.width?px-w-24:px+12)+'px';tip.style.top=(svg.offsetTop+14)+'px'});
const hide=()=>{cross.style.visibility=tip.style.visibility='hidden'};svg.addEventListener('pointerleave',hide)}
)";

}  // namespace moegen
